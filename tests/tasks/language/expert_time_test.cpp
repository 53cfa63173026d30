#include "moekit/tasks/language/expert_time.h"

#include "tests/tasks/language/language_fixture.h"

namespace moekit::language {
namespace {

const std::string kCheap =
    "model.expert={ kind = \"zero_computation\", intermediate_size = 12, constant_experts = 1, "
    "copy_experts = 1, zero_experts = 0 }";

TEST_F(LanguageTest, TellsWhatExpertsWithoutComputationSave) {
  const Json all = trained("timed", {kCheap, "expert_time=3", "model.capacity_factor=1.1",
                                     "model.capacity_tau=0.5", "model.eval_capacity_factor=0"});
  const Json& time = all["expert_time"];
  EXPECT_EQ(time["tokens"], 4 * 24);
  EXPECT_GT(time["milliseconds"].get<double>(), 0);
  EXPECT_GT(time["computing_milliseconds"].get<double>(), 0);
  EXPECT_DOUBLE_EQ(
      time["gain"].get<double>(),
      time["computing_milliseconds"].get<double>() / time["milliseconds"].get<double>() - 1);
  EXPECT_FALSE(trained("plain", {kCheap}).contains("expert_time"));
}

TEST_F(LanguageTest, RefusesToTimeWhereNothingIsSaved) {
  const std::string timed = "expert_time=3";
  EXPECT_EQ(refusal({timed}, true),
            "expert_time: all experts of this model compute; wanted 0, or model.expert.kind = "
            "\"zero_computation\"");
  EXPECT_EQ(refusal({timed, kCheap, "model.router.top_k=3"}, true),
            "expert_time: wants a router with a top_k of 1..2, the experts that compute; got 3");
  EXPECT_EQ(refusal({timed, "model.routed_every=0"}, true),
            "expert_time: has no effect without mixtures");
  EXPECT_NE(refusal({"model.capacity_tau=0.5", "model.capacity_factor=1"}).find("capacity_tau"),
            std::string::npos);
}

}  // namespace
}  // namespace moekit::language
