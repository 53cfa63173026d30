#include "moekit/tasks/continual/task.h"

#include <gtest/gtest.h>

#include <csignal>

#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/run/run_folder.h"

namespace moekit::continual {
namespace {
namespace fs = std::filesystem;

constexpr const char* kSmall = R"(
task = "continual"
[stream]
tasks = ["fashion-mnist/invert", "fashion-mnist/flip", "fashion-mnist"]
train_limit = 400
test_limit = 200
[model]
kind = "adapters"
num_experts = 5
scale = 1
freeze_used = 1
[model.base]
net = { hidden = [24] }
epochs = 2
[model.router]
kind = "linear"
top_k = 2
noise = "gaussian"
init = "zero"
[model.expert]
kind = "mlp"
intermediate_size = 4
init = "zero_output"
[train]
steps = 12
batch_size = 32
lr = 5e-3
)";

class ContinualTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-continual-", ::getpid());
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  static ConfigTree recipe(const std::vector<std::string>& set = {}) {
    auto tree = parse_toml(kSmall, "small.toml");
    for (const auto& one : set) apply_override(tree, one);
    return tree;
  }
  static ConfigTree whole(const std::vector<std::string>& set = {}) {
    auto tree = parse_toml(R"(
task = "continual"
[stream]
tasks = ["fashion-mnist/invert", "fashion-mnist/flip", "fashion-mnist"]
train_limit = 400
test_limit = 200
[model]
kind = "whole"
[model.base]
net = { hidden = [24] }
epochs = 2
[train]
steps = 12
batch_size = 32
)",
                           "whole.toml");
    for (const auto& one : set) apply_override(tree, one);
    return tree;
  }
  Json run(const ConfigTree& tree, const std::string& name) {
    EXPECT_EQ(task().run(tree, {folder_ / name, "", false, true}), run::RunStatus::kFinished);
    return run::read_summary(folder_ / name);
  }
  static std::string refusal(const ConfigTree& tree) {
    try {
      task().check(tree);
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  }
  static double last(const Json& summary) { return summary["figures"]["last"].get<double>(); }
  fs::path folder_;
};

TEST_F(ContinualTest, ResumesAtTaskAndStepToTheSameBits) {
  const std::vector<std::vector<std::string>> kinds = {
      {"train.merge=merge", "train.merge_period=2", "train.steps=4", "train.usage=true",
       "protect.replay=10", "selector.on=true", "protect.lwf=1", "stream.validation=50",
       "train.best_every=3"},
      {"train.steps=4", "protect.lwf=1", "protect.ewc=10", "protect.ewc_samples=5"},
      {"train.steps=4", "model.grow=2", "train.merge=merge", "train.merge_period=2",
       "train.usage=true", "protect.replay=10", "stream.validation=50", "train.best_every=2"}};
  for (size_t kind = 0; kind < kinds.size(); ++kind) {
    const auto tree = kind == 1 ? whole(kinds[kind]) : recipe(kinds[kind]);
    const std::string one = concat("whole", kind);
    const std::string other = concat("parts", kind);
    run(tree, one);
    for (int stop = 0; stop < 6; ++stop) {  // beyond the first task's 4 steps
      const InterruptGuard guard;
      std::raise(SIGINT);
      ASSERT_EQ(task().run(tree, {folder_ / other, "", stop > 0, true}),
                run::RunStatus::kInterrupted);
    }
    const InterruptGuard calm;
    task().run(tree, {folder_ / other, "", true, true});
    for (const char* file : {"model/model.safetensors", "metrics.jsonl"}) {
      EXPECT_TRUE(read_file(folder_ / one / file) == read_file(folder_ / other / file))
          << file << " of " << kind;
    }
    auto a = run::read_summary(folder_ / one);
    auto b = run::read_summary(folder_ / other);
    a.erase("seconds");
    b.erase("seconds");
    EXPECT_EQ(a, b) << kind;
    // What every task was left with.
    EXPECT_EQ(run::list_checkpoints(folder_ / one).size(), 3U);
  }
}

TEST_F(ContinualTest, EndsATaskInItsBestStateOnValidation) {
  // A learning rate at which the last state is a matter of luck.
  const std::vector<std::string> set = {"stream.validation=100", "train.lr=0.3", "train.steps=20"};
  auto with = set;
  with.push_back("train.best_every=1");
  const Json last = run(recipe(set), "last");
  const Json best = run(recipe(with), "best");
  EXPECT_FALSE(last.contains("best_step"));
  ASSERT_EQ(best["best_step"].size(), 3U);
  bool earlier = false;
  for (const auto& step : best["best_step"]) {
    EXPECT_GE(step, 1);
    EXPECT_LE(step, 20);
    earlier = earlier || step < 20;
  }
  EXPECT_TRUE(earlier);
  // Up to the end of the first task both are the same run: its best is no worse than its last.
  const auto of = [&](const std::string& name) {
    return run::read_metrics(folder_ / name)[1]["validation_accuracy"][0].get<double>();
  };
  EXPECT_GE(of("best"), of("last"));
  EXPECT_GT(best["validation"]["figures"]["average"], last["validation"]["figures"]["average"]);
}

TEST_F(ContinualTest, FrozenExpertsAndRoutersKeepWhatATaskLearnt) {
  const Json kept = run(recipe({"model.freeze_used=5"}), "kept");
  const Json moving = run(recipe({"model.freeze_used=0"}), "moving");
  // Every expert that the first task used is frozen after it, and so is its router.
  EXPECT_EQ(kept["accuracy"][0][0], kept["accuracy"][2][0]);
  EXPECT_NE(moving["accuracy"][0][0], moving["accuracy"][2][0]);
  EXPECT_FALSE(kept["model"]["frozen"].empty());
  EXPECT_TRUE(moving["model"]["frozen"].empty());
  // Assignments of a task: 12 steps of 32 tokens with two experts.
  double sum = 0;
  for (const auto& count : kept["used"]["model.moe"][1]) sum += count.get<double>();
  EXPECT_EQ(sum, 12 * 32 * 2);
}

TEST_F(ContinualTest, APoolThatGrowsLeavesEarlierTasksAsTheyWere) {
  const Json grown = run(recipe({"model.grow=2", "model.freeze_used=5"}), "grown");
  const Json fixed = run(recipe({"model.freeze_used=5"}), "fixed");
  // The first task is the same run, and its router knows nothing of the new experts.
  EXPECT_EQ(grown["accuracy"][0][0], fixed["accuracy"][0][0]);
  EXPECT_EQ(grown["accuracy"][0][0], grown["accuracy"][2][0]);
  const auto& used = grown["used"]["model.moe"];
  ASSERT_EQ(used[0].size(), 9U);
  for (size_t e = 5; e < 9; ++e) EXPECT_EQ(used[0][e], 0);
  for (size_t e = 7; e < 9; ++e) EXPECT_EQ(used[1][e], 0);
  EXPECT_GT(used[2][7].get<double>() + used[2][8].get<double>(), 0);
  // Experts of 24 x 4 and 4 x 24 weights with biases; two routers have two rows more, one four,
  // each of a weight, its noise's weight and a bias.
  const int64_t expert = 2 * 24 * 4 + 4 + 24;
  EXPECT_GT(grown["parameters"].get<int64_t>() - fixed["parameters"].get<int64_t>(), 4 * expert);
  const auto source = checkpoint::open_tensors(folder_ / "grown" / "model" / "model.safetensors");
  EXPECT_EQ(source->read("model.moe.experts.up_proj").size(0), 9);
  EXPECT_EQ(source->read("model.moe.router.1.weight").size(0), 7);
  // New experts were drawn, not copied.
  const auto up = source->read("model.moe.experts.up_proj");
  EXPECT_FALSE(torch::equal(up[8], up[0]));
}

TEST_F(ContinualTest, MergesChangeTheRouterOfTheTaskAtHandAlone) {
  // Replay asks the routers of earlier tasks in between.
  const Json summary = run(recipe({"model.freeze_used=4", "protect.replay=10", "train.merge=merge",
                                   "train.merge_period=4", "train.merge_router=zero"}),
                           "zeroed");
  ASSERT_FALSE(summary["merges"].empty());
  for (const auto& merge : summary["merges"]) EXPECT_LE(merge["step"], 20);  // all five frozen then
  const auto router = [&](int64_t step, const std::string& name) {
    const auto source = checkpoint::open_tensors(folder_ / "zeroed" / "checkpoints" /
                                                 concat("step-", step) / "model.safetensors");
    return source->read("model.moe.router." + name);
  };
  EXPECT_TRUE(router(12, "0.weight").equal(router(36, "0.weight")));
  EXPECT_FALSE(router(12, "1.weight").equal(router(36, "1.weight")));
}

TEST_F(ContinualTest, BeforeTheFirstTaskTheNetworkAnswersAlone) {
  const Json adapters = run(recipe(), "adapters");
  const Json network = run(whole(), "network");
  EXPECT_EQ(adapters["accuracy_before"], network["accuracy_before"]);
  // What it was trained on it knows best.
  EXPECT_GT(adapters["accuracy_before"][2].get<double>(), 35);
  EXPECT_LT(adapters["accuracy_before"][0].get<double>(), 30);
  EXPECT_EQ(adapters["tasks"].size(), 3U);
  const auto lines = run::read_metrics(folder_ / "adapters");
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0]["accuracy"], adapters["accuracy_before"]);
  EXPECT_EQ(lines[2]["accuracy"], adapters["accuracy"][1]);
  EXPECT_EQ(lines[2]["task"], "fashion-mnist/flip");
}

TEST_F(ContinualTest, ReplayDistillationAndAnchorsEachKeepMoreOfTheFirstTask) {
  const std::vector<std::string> longer = {"train.steps=60"};
  const auto of_first = [](const Json& summary) {
    return summary["accuracy"][2][0].get<double>() - summary["accuracy"][0][0].get<double>();
  };
  const auto with = [&](const std::string& key, const std::string& name) {
    auto set = longer;
    set.push_back(key);
    return of_first(run(whole(set), name));
  };
  const double plain = of_first(run(whole(longer), "plain"));
  EXPECT_LT(plain, -5);
  EXPECT_GT(with("protect.replay=100", "replay"), plain + 3);
  EXPECT_GT(with("protect.ewc=3000", "ewc"), plain + 3);
  EXPECT_GT(with("protect.lwf=3", "lwf"), plain);
}

TEST_F(ContinualTest, OwnNetworksForgetOnlyWhatTheyShare) {
  auto tree = parse_toml(R"(
task = "continual"
[stream]
tasks = ["fashion-mnist/invert", "fashion-mnist"]
train_limit = 400
test_limit = 200
[model]
kind = "own"
hidden = [16, 12]
[train]
steps = 15
)",
                         "own.toml");
  const Json apart = run(tree, "apart");
  EXPECT_EQ(apart["accuracy"][0][0], apart["accuracy"][1][0]);
  const int64_t alone = 2 * (785 * 16 + 17 * 12 + 13 * 10);
  EXPECT_EQ(apart["parameters"], alone);
  apply_override(tree, "model.shared_layers=1");
  const Json shared = run(tree, "shared");
  EXPECT_EQ(shared["parameters"], alone - 785 * 16);
  EXPECT_NE(shared["accuracy"][0][0], shared["accuracy"][1][0]);
}

TEST_F(ContinualTest, OneTaskHasNoFiguresOfTransfer) {
  const Json one = run(recipe({"stream.tasks=[\"fashion-mnist\"]"}), "one");
  EXPECT_TRUE(one["figures"].contains("last"));
  EXPECT_FALSE(one["figures"].contains("transfer"));
  EXPECT_FALSE(one["figures"].contains("forgetting"));
  EXPECT_NO_THROW(task().section("one", folder_ / "one", ""));
}

TEST_F(ContinualTest, PrototypesKnowClassesOfTheirOwnDataSet) {
  const Json two = run(recipe({"model.base.train_on=\"\"", "model.base.head=prototypes",
                               "model.base.net.hidden=[64]", "model.base.epochs=5"}),
                       "prototypes");
  // Mean features of random weights tell clothes apart, upside down or not.
  for (const auto& accuracy : two["accuracy_before"]) EXPECT_GT(accuracy.get<double>(), 40);
}

TEST_F(ContinualTest, SettingsCanBeChosenByImagesThatAreNotTheTestSet) {
  const Json with = run(recipe({"stream.validation=100"}), "with");
  EXPECT_TRUE(with["validation"]["figures"].contains("average"));
  EXPECT_NE(with["validation"]["figures"]["average"], with["figures"]["average"]);
  EXPECT_FALSE(run(recipe(), "without").contains("validation"));
}

TEST_F(ContinualTest, ASelectorFindsTasksThatLookUnlikeAndRejectsThoseToCome) {
  const Json summary = run(
      recipe({"selector.on=true", "selector.hidden=16", "selector.percentile=95",
              "stream.train_limit=1500", "model.base.train_on=\"\"", "model.base.head=prototypes",
              "model.base.net.hidden=[64]", "model.base.epochs=5"}),
      "selected");
  const Json& one = summary["selector"]["batch_1"];
  const Json& many = summary["selector"]["batch_128"];
  // Inverted clothes are bright; 128 at a time there is no doubt. (Flipped ones and those as they
  // are differ little, and of 128 the mean decides for all.)
  EXPECT_GT(many["right"][2][0].get<double>(), 95);
  EXPECT_GT(one["found"].get<double>(), 50);
  // After the first task the others were never seen.
  EXPECT_GT(one["right"][0][1].get<double>(), 80);
  EXPECT_TRUE(many["figures"].contains("last"));
  EXPECT_FALSE(run(recipe(), "told").contains("selector"));
}

TEST_F(ContinualTest, FewShotTakesSoManyOfEachClass) {
  const Json few = run(recipe({"stream.per_class=2"}), "few");
  double sum = 0;  // 20 examples are one batch
  for (const auto& count : few["used"]["model.moe"][0]) sum += count.get<double>();
  EXPECT_EQ(sum, 12 * 20 * 2);
}

TEST_F(ContinualTest, ShowsItsMatrixUseAndMerges) {
  run(recipe({"train.merge=merge", "train.merge_period=4"}), "merged");
  const auto section = task().section("a", folder_ / "merged", "");
  ASSERT_EQ(section.overview_maps.size(), 1U);
  EXPECT_EQ(section.overview_maps[0].values.size(), 4U);  // before, and after each of three
  EXPECT_EQ(section.heat_maps.size(), 2U);
  EXPECT_EQ(section.charts.size(), 2U);
  auto summary = read_json(folder_ / "merged" / "summary.json");
  summary["accuracy"][1].erase(0);
  write_json(folder_ / "merged" / "summary.json", summary);
  EXPECT_THROW(task().section("a", folder_ / "merged", ""), FormatError);
}

TEST_F(ContinualTest, RefusesBeforeWorkBegins) {
  EXPECT_NE(refusal(recipe({"model.grow=2", "model.shared_router=true"})).find("model.grow"),
            std::string::npos);
  EXPECT_NE(refusal(recipe({"train.best_every=2"})).find("set stream.validation"),
            std::string::npos);
  EXPECT_NE(refusal(recipe({"train.best_every=13", "stream.validation=50"})).find("got 13"),
            std::string::npos);
  const auto says = [&](const std::vector<std::string>& set, const std::string& words) {
    const std::string message = refusal(recipe(set));
    EXPECT_NE(message.find(words), std::string::npos) << words << ": " << message;
  };
  says({"model.num_experts=1000000000"}, "the largest option is model.num_experts");
  says({"stream.tasks=[]"}, "stream.tasks: wants a task at least");
  says({"stream.tasks=[\"mnist/upside\"]"}, "unknown transform \"upside\"");
  says({"stream.tasks=[\"nist\"]"}, "unknown data set \"nist\"");
  says({"stream.tasks=[\"fashion-mnist\", \"fashion-mnist\"]"}, "twice");
  says({"train.lr_scales=[1, 2]"}, "train.lr_scales: wants one a task, 3; got 2");
  says({"model.freeze_used=6"}, "there are 5 experts; got 6");
  says({"model.base.train_on=\"mnist\""}, "is none of stream.tasks");
  says({"model.base.train_on=\"\"", "model.base.epochs=5"}, "model.base.head");
  says({"model.base.train_on=\"\""}, "model.base.epochs has no effect");
  says({"model.base.scale=3"}, "model.base.scale has no effect");
  says({"model.router.top_k=9"}, "top_k");
  says({"selector.hidden=3"}, "selector.hidden has no effect without selector.on");
  says({"selector.on=true", "model.shared_router=true"}, "selector.on: wants");
  says({"selector.on=true", "selector.batches=[]"}, "selector.batches");
  says({"protect.replay_batch=3"}, "protect.replay_batch has no effect");
  says({"model.router.kind=attentive"}, "model.router");
  EXPECT_EQ(refusal(recipe()), "");
}

TEST_F(ContinualTest, RefusesWhatDataShowBeforeATaskIsLearnt) {
  const auto says = [&](const ConfigTree& tree, const std::string& words) {
    try {
      task().run(tree, {folder_ / "refused", "", false, true});
      FAIL() << words;
    } catch (const ArgumentError& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
    EXPECT_FALSE(fs::exists(folder_ / "refused" / "summary.json"));
  };
  says(recipe({"stream.train_limit=70000"}), "has 60000 images; got 70000");
  says(recipe({"stream.per_class=399"}), "stream.per_class: class 0");
  says(recipe({"protect.replay=401"}), "protect.replay: task 0 has 400");
  says(recipe({"train.merge=merge", "train.merge_period=4", "model.num_experts=2",
               "model.router.top_k=1", "model.router.combine_weights=probs"}),
       "wants 3 experts or more");
  says(recipe({"train.merge=merge", "train.merge_period=4", "model.router.top_k=5"}),
       "train.merge wants a router that gives each token the same number of experts, 1..4; that of "
       "layer \"model.moe\" does not");
  const std::string cheap = "model.expert={ kind = \"zero_computation\", intermediate_size = 8 }";
  const std::string bond = "model.expert={ kind = \"matrix_product\", intermediate_size = 16 }";
  const std::string kinds = "its experts are not of one kind: constant [2, ";
  says(recipe({"train.merge=merge", "train.merge_period=4", "model.freeze_used=0", cheap}),
       "train.merge: layer \"model.moe\": " + kinds);
  says(recipe({"model.freeze_used=1", cheap}), "model.freeze_used: " + kinds);
  says(recipe({"model.grow=1", "model.freeze_used=0", cheap}), "model.grow: " + kinds);
  says(recipe({"model.freeze_used=1", bond}),
       "model.freeze_used: its experts share parameters, which learn on");
  says(whole({"train.merge=merge"}), "has no routed layer");
  says(recipe({"train.merge=merge"}), "nothing would be written: the first time would be step 100");
  says(recipe({"train.merge=merge", "train.merge_period=4", "train.merge_blend=0"}),
       "train.merge_blend must be above 0");
  says(recipe({"model.grow=2", "stream.tasks=[\"fashion-mnist\"]"}),
       "no effect on a stream of one");
  says(recipe({"model.grow=40000"}), "at most 65536 experts in the end; got 5 and 40000");
  says(recipe({"protect.ewc=1", "model.grow=1"}), "model.grow adds some with every task");
}

}  // namespace
}  // namespace moekit::continual
