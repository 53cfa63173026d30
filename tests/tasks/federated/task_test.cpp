#include "moekit/tasks/federated/task.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <csignal>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/run/report.h"

namespace moekit::federated {
namespace {
namespace fs = std::filesystem;

class FederatedTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-federated-", ::getpid());
    fs::remove_all(folder_);
    recipe_ = parse_toml(R"(
task = "federated"
data = { name = "synthetic-clusters", options = { num_train = 600, num_test = 200 } }
users = 10
per_round = 5
rounds = 4
lr = 0.1
batch_size = 16
hidden_size = 8
split = { kind = "shards" }
attack = { kind = "stale", attackers = 4, rounds_ago = 2 }
)",
                         "test");
  }
  void TearDown() override { fs::remove_all(folder_); }
  ConfigTree with(const std::vector<std::string>& set) const {
    ConfigTree recipe = recipe_;
    for (const auto& assignment : set) apply_override(recipe, assignment);
    return recipe;
  }
  std::string refusal(const std::vector<std::string>& set, bool run = false) {
    try {
      if (run) {
        task().run(with(set), {folder_ / "refused", "", false, true});
      } else {
        task().check(with(set));
      }
    } catch (const ArgumentError& error) {
      EXPECT_FALSE(fs::exists(folder_ / "refused"));
      return error.what();
    }
    return "";
  }
  Json summary(const std::string& name, const std::vector<std::string>& set) {
    task().run(with(set), {folder_ / name, "", false, true});
    return run::read_summary(folder_ / name, Schema::any());
  }
  fs::path folder_;
  ConfigTree recipe_;
};

TEST_F(FederatedTest, ResumesToTheSameBytes) {
  ASSERT_EQ(task().run(recipe_, {folder_ / "whole", "", false, true}), run::RunStatus::kFinished);
  for (int stop = 0; stop < 3; ++stop) {
    const InterruptGuard guard;
    std::raise(SIGINT);
    ASSERT_EQ(task().run(recipe_, {folder_ / "parts", "", stop > 0, true}),
              run::RunStatus::kInterrupted);
  }
  const InterruptGuard calm;
  task().run(recipe_, {folder_ / "parts", "", true, true});
  for (const char* file : {"model/model.safetensors", "metrics.jsonl"}) {
    EXPECT_EQ(read_file(folder_ / "whole" / file), read_file(folder_ / "parts" / file)) << file;
  }
  auto whole = run::read_summary(folder_ / "whole", Schema::any());
  auto parts = run::read_summary(folder_ / "parts", Schema::any());
  whole.erase("seconds");
  parts.erase("seconds");
  EXPECT_EQ(whole, parts);
}

TEST_F(FederatedTest, ThreadsChangeNoBit) {
  for (const char* kind : {"quadratic", "median", "softmax"}) {
    const std::string aggregation = concat("aggregation={ kind = \"", kind, "\" }");
    auto one = summary(concat(kind, 1), {aggregation});
    auto three = summary(concat(kind, 3), {aggregation, "threads=3"});
    for (auto* of : {&one, &three}) of->erase("seconds");
    EXPECT_EQ(one, three) << kind;
    for (const char* file : {"model/model.safetensors", "metrics.jsonl"}) {
      EXPECT_TRUE(read_file(folder_ / concat(kind, 1) / file) ==
                  read_file(folder_ / concat(kind, 3) / file))
          << kind << " " << file;
    }
  }
}

TEST_F(FederatedTest, ALongerRunIsTheSameRunGoneOn) {
  task().run(with({"rounds=2"}), {folder_ / "short", "", false, true});
  run::RunOptions options{folder_ / "short", "", true, true};
  options.extend = true;
  task().run(recipe_, options);
  task().run(recipe_, {folder_ / "long", "", false, true});
  EXPECT_EQ(read_file(folder_ / "short" / "metrics.jsonl"),
            read_file(folder_ / "long" / "metrics.jsonl"));
}

TEST_F(FederatedTest, TellsOfEveryRound) {
  const Json found = summary("a", {});
  const auto lines = run::read_metrics(folder_ / "a", Schema::any());
  ASSERT_EQ(lines.size(), 4U);
  double attackers = 0;
  double accuracy = 0;
  for (const auto& line : lines) {
    EXPECT_NEAR(line["attackers_weight"].get<double>() + line["honest_weight"].get<double>(), 1,
                1e-12);
    attackers += line["attackers_weight"].get<double>();
    accuracy += line["accuracy_percent"].get<double>();
  }
  EXPECT_NEAR(found["attackers_weight"].get<double>(), attackers / 4, 1e-12);
  EXPECT_NEAR(found["accuracy_last5_percent"].get<double>(), accuracy / 4, 1e-9);
  EXPECT_EQ(found["accuracy_percent"], lines.back()["accuracy_percent"]);
  EXPECT_EQ(found["attackers"], 4);
  EXPECT_EQ(found["public_samples"], 10 * 9);  // 15 % of 60
  EXPECT_EQ(found["parameters"], 144 * 8 + 8 + 8 * 2 + 2);
  const auto section = task().section("a", folder_ / "a", "");
  EXPECT_EQ(section.overview_charts.size(), 1U);
  EXPECT_EQ(section.charts.size(), 2U);
  EXPECT_EQ(section.charts[0].series.size(), 2U);
}

TEST_F(FederatedTest, TheServerAloneIsTheControlBitForBit) {
  const Json found = summary("server", {"aggregation.kind=server_only"});
  EXPECT_EQ(found["accuracy_last5_percent"], found["server_only"]["accuracy_last5_percent"]);
  EXPECT_EQ(found["gain_on_server_percent"], 0);
  EXPECT_EQ(found["attackers_weight"], 0);
  // Nor does it depend on how users are joined.
  const Json other = summary("average", {"aggregation.kind=average"});
  EXPECT_EQ(found["server_only"], other["server_only"]);
}

TEST_F(FederatedTest, AModelThatDivergedIsRefusedAndCounted) {
  // One step of the server on its one sample is finite, the user's 38 steps are not.
  recipe_.values.erase("attack");
  recipe_.values["split"] = {{"kind", "iid"}};
  const std::vector<std::string> alone = {"users=1",  "per_round=1", "public_share=0.0017",
                                          "rounds=1", "lr=1e9",      "aggregation.kind=average"};
  const Json found = summary("diverged", alone);
  EXPECT_EQ(found["refused"], 1);
  EXPECT_EQ(found["honest_weight"], 0);
  const auto line = run::read_metrics(folder_ / "diverged", Schema::any()).at(0);
  EXPECT_TRUE(line["train_loss"].is_null());
  EXPECT_TRUE(line["rho_attacker"].is_null());
  EXPECT_LT(line["loss"].get<double>(), 2);  // of the first weights, which stay
  try {
    summary("stopped", {"lr=1e9", "per_round=1"});
    ADD_FAILURE() << "the server's network cannot be finite";
  } catch (const NumericError& error) {
    EXPECT_NE(std::string(error.what()).find("lr = 1e+09"), std::string::npos) << error.what();
  }
}

TEST_F(FederatedTest, EveryKindRunsAndHoldsItsShares) {
  for (const char* attack : {"none", "random", "sign_flip", "label_permutation", "pixel_noise"}) {
    auto recipe = recipe_;
    recipe.values["attack"] = {{"kind", attack}};
    if (std::string(attack) != "none") recipe.values["attack"]["attackers"] = 4;
    if (std::string(attack) == "random") recipe.values["attack"]["pure"] = false;
    recipe.values["split"] = {{"kind", "iid"}};
    task().run(recipe, {folder_ / attack, "", false, true});
    const auto found = run::read_summary(folder_ / attack, Schema::any());
    EXPECT_NEAR(found["attackers_weight"].get<double>() + found["honest_weight"].get<double>(), 1,
                1e-9)
        << attack;
  }
  for (const char* kind : {"average", "nearest", "softmax", "distance_softmax", "median", "krum"}) {
    const Json found = summary(kind, {concat("aggregation.kind=", kind)});
    EXPECT_TRUE(std::isfinite(found["accuracy_percent"].get<double>())) << kind;
  }
}

TEST_F(FederatedTest, RefusesBeforeAnyWorkAndNamesTheKey) {
  EXPECT_NE(refusal({"per_round=11"}).find("per_round = 11, but there are 10 users"),
            std::string::npos);
  EXPECT_NE(refusal({"attack.attackers=10"})
                .find("attack.attackers = 10 of 10 users: all users "
                      "are attackers"),
            std::string::npos);
  EXPECT_NE(refusal({"attack.attackers=0"}).find("attack.attackers"), std::string::npos);
  EXPECT_NE(refusal({"attack.noise=3"}).find("noise"), std::string::npos);  // of another kind
  EXPECT_NE(refusal({"split.alpha=1"}).find("alpha"), std::string::npos);
  EXPECT_NE(refusal({"public_share=1.5"}).find("public_share"), std::string::npos);
  EXPECT_NE(refusal({"lr=0"}).find("lr"), std::string::npos);
  EXPECT_NE(refusal({"rounds=0"}).find("rounds"), std::string::npos);
  EXPECT_NE(refusal({"aggregation.kind=krum", "aggregation.byzantine=2"})
                .find("aggregation.byzantine = 2"),
            std::string::npos);
  EXPECT_NE(refusal({"aggregation.kind=best"}).find("distance_softmax"), std::string::npos);
}

TEST_F(FederatedTest, RefusesDataThatLeaveSomebodyWithout) {
  EXPECT_NE(refusal({"data.train_limit=15"}, true).find("split.shards_per_user = 2"),
            std::string::npos);
  auto recipe = recipe_;
  recipe.values["split"] = {{"kind", "dirichlet"}, {"alpha", 0.001}};
  recipe_ = recipe;
  EXPECT_NE(refusal({}, true).find("split.kind = \"dirichlet\": user"), std::string::npos);
  recipe_.values["split"] = {{"kind", "iid"}};
  EXPECT_NE(refusal({"public_share=0.001"}, true).find("public_share = 0.001"), std::string::npos);
  EXPECT_NE(refusal({"data.train_limit=601"}, true).find("data.train_limit = 601"),
            std::string::npos);
  EXPECT_NE(
      refusal({"data.train_limit=9"}, true).find("users = 10, split.kind = \"iid\": user 0 gets"),
      std::string::npos);
}

}  // namespace
}  // namespace moekit::federated
