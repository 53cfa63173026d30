#include "moekit/tasks/merged_linear/task.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit::merged_linear {
namespace {
namespace fs = std::filesystem;

class MergedLinearTaskTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-merged-", ::getpid());
    fs::remove_all(folder_);
    recipe_.values = {{"task", "merged_linear"},
                      {"layer",
                       {{"num_experts", 6},
                        {"top_k", 3},
                        {"hidden_size", 8},
                        {"intermediate_size", 10},
                        {"sequences", 3},
                        {"length", 5}}}};
  }
  void TearDown() override { fs::remove_all(folder_); }
  Json summary_of(const char* name) {
    EXPECT_EQ(task().run(recipe_, {folder_ / name, "", false, true}), run::RunStatus::kFinished);
    return task().inspect(folder_ / name, "", "");
  }
  std::string refusal(const char* section, const char* key, const Json& value) {
    auto recipe = recipe_;
    recipe.values[section][key] = value;
    try {
      task().check(recipe);
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  }
  fs::path folder_;
  ConfigTree recipe_;
};

TEST_F(MergedLinearTaskTest, FindsBothPathsEqualForEveryUnit) {
  for (const char* unit : {"token", "sequence", "prefix", "task"}) {
    for (const double masked : {0.0, 0.4}) {
      recipe_.values["layer"]["unit"] = unit;
      recipe_.values["layer"]["masked"] = masked;
      const auto summary = summary_of(concat(unit, masked).c_str());
      for (const char* of : {"values", "experts", "router", "tokens"}) {
        EXPECT_LE(summary["float32"][of].get<double>(), 1e-4) << unit << " " << of;
        EXPECT_LE(summary["float64"][of].get<double>(), 1e-10) << unit << " " << of;
      }
      EXPECT_GT(summary["operations"]["saving"].get<double>(), 0);
    }
  }
}

TEST_F(MergedLinearTaskTest, GivesTheSameFiguresForTheSameSeedAndTheEncoderOfThePaper) {
  recipe_.values["encoder"] = {{"selected", 4}};
  auto first = summary_of("a");
  auto second = summary_of("b");
  for (auto* summary : {&first, &second}) summary->erase("seconds");
  EXPECT_EQ(first, second);
  EXPECT_NEAR(first["encoder"]["routed"].get<double>(), 72.0, 0.05);
  EXPECT_NEAR(first["encoder"]["merged_twice"].get<double>(), 28.95, 0.005);
  EXPECT_FALSE(first.contains("latency"));
  // B = 3, T = 5, D = 8, F = 10, K = 3 of E = 6; the router sees three means.
  EXPECT_EQ(first["operations"]["routed"].get<double>(), 2 * 15 * 3 * 80 + 2 * 3 * 8 * 6);
  const auto shown = task().section("a", folder_ / "a", "").subtitle;
  EXPECT_NE(shown.find("72.0 GFLOP routed, 28.73 merged"), std::string::npos) << shown;
}

TEST_F(MergedLinearTaskTest, TakesGradientsOfFloat64InFloat64) {
  // With many terms in every sum the two paths round differently: an exact 0 would mean that their
  // gradients went through a narrower type, in which they are alike.
  recipe_.values["layer"] = {{"num_experts", 8}, {"hidden_size", 48}, {"intermediate_size", 40}};
  const auto apart = summary_of("wide")["float64"];
  for (const char* of : {"values", "experts", "router", "tokens"}) {
    EXPECT_GT(apart[of].get<double>(), 0) << of;
    EXPECT_LE(apart[of].get<double>(), 1e-12) << of;
  }
}

TEST_F(MergedLinearTaskTest, MeasuresOnlyWhatItIsAsked) {
  recipe_.values = {{"task", "merged_linear"}, {"equality", false}, {"encoder", {{"selected", 1}}}};
  const auto summary = summary_of("formula");
  EXPECT_NEAR(summary["encoder"]["routed"].get<double>(), 28.5, 0.05);
  EXPECT_FALSE(summary.contains("float32"));
}

TEST_F(MergedLinearTaskTest, TakesTimesWhereItIsAsked) {
  recipe_.values["latency"] = {{"runs", 2}};
  const auto latency = summary_of("timed")["latency"];
  EXPECT_GT(latency["ratio"].get<double>(), 0);
}

TEST_F(MergedLinearTaskTest, RefusesWithTheValues) {
  EXPECT_NE(refusal("layer", "top_k", 7).find("layer.top_k must be 1..num_experts = 1..6; got 7"),
            std::string::npos);
  EXPECT_NE(refusal("layer", "token_reduction", 9).find("got 9"), std::string::npos);
  EXPECT_NE(refusal("layer", "unit", "word").find("word"), std::string::npos);
  EXPECT_NE(refusal("layer", "masked", 1.0).find("layer.masked"), std::string::npos);
  EXPECT_NE(refusal("latency", "seconds", 1.0).find("has no effect"), std::string::npos);
  EXPECT_NE(refusal("encoder", "length", 3).find("has no effect with encoder.selected = 0"),
            std::string::npos);
  recipe_.values["equality"] = false;
  EXPECT_NE(refusal("layer", "bias", true).find("leave nothing to do"), std::string::npos);
  EXPECT_NE(refusal("encoder", "selected", 2).find("layer.num_experts = 6 has no effect"),
            std::string::npos);
  recipe_.values["equality"] = true;
  recipe_.values["layer"]["unit"] = "prefix";
  EXPECT_NE(refusal("latency", "runs", 3).find("prefix"), std::string::npos);
  EXPECT_THROW(task().operations(folder_, "", 1), ArgumentError);
}

}  // namespace
}  // namespace moekit::merged_linear
