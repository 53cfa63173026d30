#include <gtest/gtest.h>

#include <cmath>
#include <csignal>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/events/event_log.h"
#include "moekit/events/record_file.h"
#include "moekit/models/model_io.h"
#include "moekit/nn/surgery.h"
#include "moekit/run/checkpoint.h"
#include "moekit/run/report.h"
#include "moekit/run/run.h"
#include "moekit/tasks/classification/inspection.h"
#include "moekit/tasks/classification/problem.h"
#include "moekit/tasks/classification/task.h"
#include "moekit/train/callbacks/patience.h"
#include "moekit/train/callbacks/stop_on_loss.h"
#include "tests/tasks/classification/run_fixture.h"

namespace moekit::classification {
namespace {
namespace fs = std::filesystem;
using models::load_model;
using run::list_checkpoints;
using run::read_metrics;
using run::read_summary;
using run::RunStatus;

TEST_F(RunTest, AnInterruptedRunGoesOnToTheSameNumbersBitForBit) {
  ASSERT_EQ(run_recipe(config_, options("whole")), RunStatus::kFinished);
  config_.train.loop.checkpoint_steps = 1;
  // Interrupted in the middle of an epoch, again and again, by a signal.
  int stops = 0;
  RunStatus status = RunStatus::kInterrupted;
  for (; status == RunStatus::kInterrupted && stops < 100; ++stops) {
    const InterruptGuard guard;
    std::raise(SIGINT);
    if (stops == 5) {
      const InterruptGuard calm;  // clears the flag: the rest runs through
      status = run_recipe(config_, options("parts", true));
      break;
    }
    status = run_recipe(config_, options("parts", stops > 0));
  }
  ASSERT_EQ(status, RunStatus::kFinished);
  EXPECT_EQ(stops, 5);
  for (const char* file : {"model/model.safetensors", "metrics.jsonl", "trace.safetensors"}) {
    EXPECT_EQ(bytes("whole", file), bytes("parts", file)) << file;
  }
}

TEST_F(RunTest, KeepsCheckpointsAndTellsWhenTheRouterWasSettled) {
  config_.train.loop.keep_every = 2;
  run_recipe(config_, options("a"));
  const int64_t steps = 18;  // an epoch: 1,800 images, batch 100
  const auto kept = list_checkpoints(folder_ / "a");
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept.count(2 * steps) + kept.count(4 * steps), 2U);
  const auto layer = inspect_run(folder_ / "a", load_run_data(config_, ""))["layers"][0];
  EXPECT_EQ(layer["saturation_over_time"].size(), 2U);
  EXPECT_LT(layer["saturation_over_time"][0]["value"], 1.0);
  EXPECT_EQ(layer["saturation_over_time"][1]["value"], 1.0);
}

TEST_F(RunTest, RefusesAFolderOfAnotherRunAndResumesAFinishedOneAtOnce) {
  run_recipe(config_, options("a"));
  EXPECT_THROW(run_recipe(config_, options("a")), ArgumentError);
  EXPECT_EQ(run_recipe(config_, options("a", true)), RunStatus::kFinished);
  config_.train.loop.lr = 0.5;
  EXPECT_THROW(run_recipe(config_, options("a", true)), ArgumentError);
}

/// A small cluster-patch problem on eight two-layer networks, full batch.
Config cluster_recipe(const std::vector<std::string>& set = {}) {
  return recipe(R"(
data = { name = "cluster-patch", options = { num_train = 1000, num_test = 500 } }
[model]
kind = "sparse_mixture"
num_experts = 8
output_loss = "double_softmax"
expert = { kind = "patch", activation = "cubic", init_scale = 1e-3 }
router = { input = "patch_sum", top_k = 1, combine_weights = "logits", noise = "uniform", init = "zero", bias = false }
[train]
epochs = 40
batch_size = 1000
optimizer = "normalized_gd"
groups = [{ match = "moe.experts", normalize = true }, { match = "moe.router", lr_scale = 100 }]
evaluate_every = 15
noisy_test = true
)",
                set);
}

TEST_F(RunTest, TrainsASparseMixtureOnClustersAndTellsItsAlignment) {
  run_recipe(cluster_recipe(), options("a"));
  const auto lines = read_metrics(folder_ / "a");
  ASSERT_EQ(lines.size(), 3U);  // epochs 15, 30 and the last
  EXPECT_EQ(lines[2]["epoch"], 40);
  EXPECT_LT(lines[2]["train_loss"], lines[0]["train_loss"]);
  const auto& cluster = lines[2]["test"]["layers"]["moe"]["cluster"];
  EXPECT_LE(cluster["dispatch_entropy"], std::log(4) + 1e-9);
  const Json summary = read_summary(folder_ / "a");
  EXPECT_EQ(summary["alignment"]["experts"]["label"].size(), 8U);
  EXPECT_EQ(summary["alignment"]["router"]["centre"][0].size(), 4U);
  EXPECT_TRUE(summary["noisy_train"]["layers"]["moe"].contains("cluster"));
  EXPECT_NE(summary["noisy_test"]["loss"], summary["test"]["loss"]);
  const auto samples = [&](const char* part) {
    double sum = 0;
    for (const auto& row : summary[part]["layers"]["moe"]["cluster"]["counts"]) {
      for (const auto& count : row) sum += count.get<double>();
    }
    return sum;
  };
  EXPECT_EQ(samples("noisy_train"), 1000);  // each judged on its own part
  EXPECT_EQ(samples("noisy_test"), 500);
  const auto section = task().section("a", folder_ / "a", "");
  EXPECT_NE(std::count_if(
                section.heat_maps.begin(), section.heat_maps.end(),
                [](const auto& map) { return map.title.find("over time") != std::string::npos; }),
            0);
  EXPECT_TRUE(section.sheets.empty());  // numbers are no pictures
}

TEST_F(RunTest, GoesOnBetweenTestsToTheSameNumbers) {
  run_recipe(cluster_recipe(), options("whole"));
  RunStatus status = RunStatus::kInterrupted;
  for (int stop = 0; stop < 3; ++stop) {
    const InterruptGuard guard;
    std::raise(SIGINT);
    status = run_recipe(cluster_recipe(), options("parts", stop > 0));
    ASSERT_EQ(status, RunStatus::kInterrupted);  // after one step each: not at a test
  }
  const InterruptGuard calm;
  run_recipe(cluster_recipe(), options("parts", true));
  for (const char* file : {"model/model.safetensors", "metrics.jsonl"}) {
    EXPECT_EQ(bytes("whole", file), bytes("parts", file)) << file;
  }
}

TEST_F(RunTest, StopsWhenTheTrainingLossRisesOrIsLowEnough) {
  auto config = cluster_recipe();
  config.train.callbacks.get<train::StopOnLossOptions>().stop_below = 10;  // met at once,
  config.train.callbacks.get<train::StopOnLossOptions>().stop_from_epoch = 7;
  run_recipe(config, options("low"));
  EXPECT_EQ(read_summary(folder_ / "low")["epochs"], 7);
  config.train.callbacks.get<train::StopOnLossOptions>().stop_below = 0;
  config.train.loop.lr = 3;  // jumps about
  config.train.callbacks.get<train::StopOnLossOptions>().stop_rise = 1e-6;
  run_recipe(config, options("rise"));
  EXPECT_LT(read_summary(folder_ / "rise")["epochs"], 40);
  EXPECT_EQ(read_summary(folder_ / "rise")["stopped_early"], true);
}

TEST_F(RunTest, NamesStepAndTensorWhenNumbersAreNoLongerFinite) {
  // Weights of 1e18 after the first step, of which the experts take the cube.
  const auto config = cluster_recipe(
      {"train.lr=1e9",
       "train.groups=[{ match = \"moe.experts\", normalize = true, lr_scale = 1e9 }]"});
  try {
    run_recipe(config, options("a"));
    FAIL();
  } catch (const NumericError& error) {
    EXPECT_NE(std::string(error.what()).find("step"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("moe."), std::string::npos) << error.what();
  }
}

TEST_F(RunTest, StopsEarlyWithoutAGainInValidationLoss) {
  config_.train.loop.epochs = 50;
  config_.train.loop.lr = 1e-30;  // lost in rounding: the weights stay, and so does the loss
  config_.train.callbacks.get<train::PatienceOptions>().patience = 2;
  config_.train.loop.optimizer.select("sgd");
  run_recipe(config_, options("a"));
  EXPECT_EQ(read_summary(folder_ / "a")["epochs"], 3);  // the first, and two without a gain
  EXPECT_EQ(read_summary(folder_ / "a")["stopped_early"], true);
}

TEST_F(RunTest, CountsTestsNotEpochsWithoutAGain) {
  config_.train.loop.epochs = 50;
  config_.train.loop.lr = 1e-30;
  config_.train.callbacks.get<train::PatienceOptions>().patience = 2;
  config_.train.loop.optimizer.select("sgd");
  config_.train.loop.evaluate_every = 2;
  run_recipe(config_, options("a"));
  EXPECT_EQ(read_summary(folder_ / "a")["epochs"], 6);  // tests at 2, then 4 and 6 without a gain
}

TEST_F(RunTest, CopiesAndFreezesPartsOfOtherRuns) {
  run_recipe(config_, options("teacher"));
  auto student = config_;
  student.init.experts_from = (folder_ / "teacher").string();
  student.init.freeze_experts = true;
  student.seed = 9;
  run_recipe(student, options("student"));
  const auto teacher_model = load_model(folder_ / "teacher" / "model");
  const auto student_model = load_model(folder_ / "student" / "model");
  for (const auto& item : teacher_model->named_parameters()) {
    const bool same = torch::equal(item.value(), student_model->named_parameters()[item.key()]);
    EXPECT_EQ(same, item.key().find("experts") != std::string::npos) << item.key();
  }
  student.init.experts_from = (folder_ / "nowhere").string();
  try {
    run_recipe(student, options("other"));
    FAIL() << "experts of a run that is not there";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("init.experts_from: "), std::string::npos)
        << error.what();
  }
}

TEST_F(RunTest, StartsEveryExpertAsThatOfADenseNetwork) {
  const std::string sequence = R"(
data = { name = "synthetic-clusters" }
train = { epochs = 1, batch_size = 100 }
[model]
kind = "sequence"
hidden_size = 8
intermediate_size = 6
num_blocks = 1
num_heads = 2
[model.router]
kind = "linear"
)";
  run_recipe(recipe(sequence, {"model.num_experts=1", "model.router.top_k=1",
                               "model.router.aux_only=true", "loss.importance=0.1"}),
             options("dense"));
  const std::vector<std::string> as_it_starts = {
      "model.num_experts=3", "model.router.top_k=2", "train.optimizer=sgd", "train.lr=1e-30",
      concat("init.dense_from=", (folder_ / "dense").string())};
  run_recipe(recipe(sequence, as_it_starts), options("mixture"));
  const auto dense = load_model(folder_ / "dense" / "model");
  const auto mixture = load_model(folder_ / "mixture" / "model");
  const auto theirs = dense->named_parameters();
  int copied = 0;
  for (const auto& item : mixture->named_parameters()) {
    const auto& from = theirs[item.key()];
    if (item.key().find("router") != std::string::npos) continue;
    ++copied;
    const bool expert = item.key().find("experts") != std::string::npos;
    EXPECT_TRUE(torch::equal(item.value(), expert ? from.expand_as(item.value()) : from))
        << item.key();
  }
  EXPECT_GT(copied, 8);
  // Of one layer more, of more experts, of another size, and beside experts_from: refused.
  const auto refused = [&](std::vector<std::string> set, const std::string& words) {
    set.insert(set.begin(), as_it_starts.begin(), as_it_starts.end());
    try {
      run_recipe(recipe(sequence, set), options("other"));
      FAIL() << words;
    } catch (const ArgumentError& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  };
  refused({"model.num_blocks=2"}, "model.num_blocks is 2 here and 1");
  refused({"model.intermediate_size=7"}, "init.dense_from: ");
  refused({concat("init.dense_from=", (folder_ / "mixture").string())}, "of one expert");
  refused({"init.experts_from=x"}, "give one");
  refused({"model.num_heads=4"}, "model.num_heads is 4 here and 2");
  refused({"init.experts_seed=4"}, "init.experts_seed has no effect");
}

TEST_F(RunTest, RefusesADamagedModelNamingTheFile) {
  run_recipe(config_, options("a"));
  const fs::path file = folder_ / "a" / "model" / "model.safetensors";
  write_file_atomic(file, read_file(file).substr(0, 100));
  EXPECT_THROW(load_model(folder_ / "a" / "model"), FormatError);
  EXPECT_THROW(read_summary(folder_ / "none"), IoError);
}

TEST_F(RunTest, RefusesMoreDataThanThereIs) {
  config_.data.train_limit = 3000;
  EXPECT_THROW(run_recipe(config_, options("a")), ArgumentError);
  config_.data.train_limit = 0;
  config_.data.holdout = 2000;
  EXPECT_THROW(run_recipe(config_, options("a")), ArgumentError);
}

TEST_F(RunTest, ARunInPartsEqualsTheRunInWholeBatches) {
  // Losses on routing are those of the whole batch, and the gradients add up.
  const auto whole = recipe(kImages, {"loss.importance=0.5", "loss.balance=0.5", "loss.entropy=0.1",
                                      "loss.similarity_same=0.01", "model.kind=sparse_mixture",
                                      "model.router.top_k=2", "model.router.noise=none",
                                      "train.epochs=2", "train.optimizer=sgd", "train.lr=0.1"});
  auto parts = whole;
  parts.train.loop.accumulate = 3;
  run_recipe(whole, options("whole"));
  run_recipe(parts, options("parts"));
  const auto a = load_model(folder_ / "whole" / "model")->named_parameters();
  const auto b = load_model(folder_ / "parts" / "model")->named_parameters();
  for (const auto& item : a) {
    EXPECT_TRUE(torch::allclose(item.value(), b[item.key()], 1e-4, 1e-5)) << item.key();
  }
  const auto line = [&](const char* name) { return read_metrics(folder_ / name).back(); };
  for (const char* key : {"train_loss", "aux_loss", "train_error"}) {
    EXPECT_NEAR(line("whole")[key].get<double>(), line("parts")[key].get<double>(), 1e-4) << key;
  }
}

TEST_F(RunTest, AModelWithFewerOrOtherExpertsReloads) {
  for (const char* kind : {"mixture", "sparse", "sparse_mixture"}) {
    std::vector<std::string> set = {concat("model.kind=", kind), "train.epochs=1"};
    if (kind != std::string("mixture")) set.emplace_back("model.router.top_k=2");
    const auto config = recipe(kImages, set);
    ClassificationProblem problem(config, load_run_data(config, ""));
    const auto layer = nn::routed_layers(problem.module()).front();
    nn::take_experts(layer, {3, 1, 1});
    nn::take_experts(layer, {2, 0});
    const fs::path folder = folder_ / kind;
    create_folders(folder);
    run::save_model(folder, problem);
    const Json saved = read_json(folder / "config.json");
    EXPECT_EQ(saved["layers"][0]["experts"], 2) << saved["layers"].dump();
    EXPECT_EQ(saved["layers"][0]["kept"], Json({1, 3}));
    const auto loaded = load_model(folder);
    EXPECT_EQ(nn::routed_layers(*loaded).front().experts->num_experts(), 2);
    problem.classifier().eval();
    const auto images = torch::randn({9, 1, 12, 12});
    EXPECT_TRUE(torch::equal(problem.classifier().forward(images, {}).log_probs,
                             loaded->forward(images, {}).log_probs))
        << kind;
  }
}

TEST_F(RunTest, ReportsDropsForEveryKindOfMixture) {
  for (const char* kind : {"mixture", "sparse", "sparse_mixture"}) {
    const bool sparse = kind != std::string("mixture");
    std::vector<std::string> set = {concat("model.kind=", kind), "train.epochs=1"};
    if (sparse) {
      set.insert(set.end(), {"model.router.top_k=2", "model.capacity_factor=0.25"});
    }
    run_recipe(recipe(kImages, set), options(kind));
    const Json test = read_summary(folder_ / kind)["test"];
    ASSERT_TRUE(test.contains("dropped")) << kind;
    // Of 1000 tokens with two choices each the four experts take a quarter at most.
    if (sparse) {
      EXPECT_GE(test["dropped"], 1500) << kind;
    } else {
      EXPECT_EQ(test["dropped"], 0);
    }
    EXPECT_EQ(read_metrics(folder_ / kind).back()["test"]["dropped"], test["dropped"]) << kind;
  }
  run_recipe(recipe("data.name = \"synthetic-clusters\"\ntrain.epochs = 1\n"
                    "model = { kind = \"single\", expert.kind = \"linear\" }"),
             options("single"));
  EXPECT_FALSE(read_summary(folder_ / "single")["test"].contains("dropped"));
}

TEST_F(RunTest, EvaluatesWithTheCapacityOfEvaluation) {
  const auto dropped = [&](const std::string& name, const char* factor) {
    run_recipe(recipe(kImages, {"model.kind=sparse", "train.epochs=1", "model.router.top_k=2",
                                "model.capacity_factor=0.25",
                                concat("model.eval_capacity_factor=", factor)}),
               options(name));
    return read_summary(folder_ / name)["test"]["dropped"].get<int64_t>();
  };
  EXPECT_GE(dropped("as-trained", "-1.0"), 1500);
  EXPECT_EQ(dropped("dropless", "0.0"), 0);
}

TEST_F(RunTest, NamesParametersWithoutGradientInTheSummaryAndInANotice) {
  // With the weights of the clean logits the size of the noise has no gradient; only loss.load
  // would give it one.
  const std::vector<std::string> set = {"model.kind=sparse", "train.epochs=2", "loss.importance=0",
                                        "model.router.top_k=2",
                                        "model.router.combine_weights=clean_probs"};
  std::string said;
  const auto listening = [&](const std::string& name) {
    auto out = options(name);
    out.notice = [&](const std::string& text) { said += text; };
    return out;
  };
  run_recipe(recipe(kImages, set), listening("silent"));
  EXPECT_NE(said.find("silent: warning: no gradient in the whole of epoch 1: "
                      "moe.router.noise_weight;"),
            std::string::npos)
      << said;
  EXPECT_EQ(said.find("epoch 2"), std::string::npos) << said;
  const auto key = "parameters_without_gradient";
  EXPECT_EQ(read_summary(folder_ / "silent")[key], Json({"moe.router.noise_weight"}));
  said.clear();
  run_recipe(recipe(kImages, {"model.kind=sparse", "train.epochs=1", "model.router.top_k=2"}),
             listening("sound"));
  EXPECT_EQ(said, "");
  EXPECT_FALSE(read_summary(folder_ / "sound").contains(key));
}

TEST_F(RunTest, LossesReadTheOutputTheyAreGiven) {
  // Of any forward pass, not the last one, and without the images that its mask left out.
  for (const char* model : {"model.form=expectation", "model.form=stochastic", "model.kind=sparse",
                            "model={kind=\"sparse_mixture\", num_experts=4, router.top_k=2}"}) {
    const auto config = recipe(kImages, {model});
    ClassificationProblem problem(config, load_run_data(config, ""));
    auto& net = problem.classifier();
    net.eval();
    const torch::NoGradGuard no_grad;
    const auto images = torch::randn({6, 1, 12, 12});
    const auto labels = torch::tensor({0, 1, 1, 0, 1, 0}, torch::kLong);
    const auto rows = torch::tensor({0, 2, 3}, torch::kLong);
    nn::RouterContext context;
    context.mask = torch::tensor({true, false, true, true, false, false});
    const auto masked = net.forward(images, context);
    const auto alone = net.forward(images.index_select(0, rows), {});
    net.forward(torch::randn({2, 1, 12, 12}), {});
    EXPECT_NEAR(net.loss(masked, labels).item<double>(),
                net.loss(alone, labels.index_select(0, rows)).item<double>(), 1e-5)
        << model;
  }
}

/// Takes experts out at one step, and asks the run to stop at another (0: never).
class PruneAndStop : public train::Callback {
 public:
  PruneAndStop(ClassificationProblem& problem, int64_t stop) : problem_(problem), stop_(stop) {}
  std::string_view name() const override { return "prune_and_stop"; }
  void on_step(train::Trainer& trainer, const train::StepReport&) override {
    if (trainer.state.step == 20) {
      nn::take_experts(nn::routed_layers(problem_.module()).front(), {3, 0, 2},
                       trainer.optimizer());
    }
    if (trainer.state.step == stop_) std::raise(SIGINT);
  }

 private:
  ClassificationProblem& problem_;
  int64_t stop_;
};

TEST_F(RunTest, ARunThatLosesExpertsOnTheWayResumesToTheSameNumbers) {
  const auto config = recipe(kImages, {"model.router.noise=none", "loss.importance=0"});
  const auto run_once = [&](const std::string& name, int64_t stop, bool resume) {
    ClassificationProblem problem(config, load_run_data(config, ""));
    run::RunPlan plan;
    plan.recipe.values = to_json(config);
    plan.problem = &problem;
    plan.optimizer = train::make_optimizer(config.train.loop, problem.module());
    plan.trainer = train::trainer_options(config.train.loop, 1);
    plan.callbacks.push_back(std::make_unique<PruneAndStop>(problem, stop));
    const InterruptGuard guard;
    return run::run(std::move(plan), options(name, resume));
  };
  ASSERT_EQ(run_once("whole", 0, false), RunStatus::kFinished);
  ASSERT_EQ(run_once("parts", 25, false), RunStatus::kInterrupted);
  ASSERT_EQ(run_once("parts", 0, true), RunStatus::kFinished);
  for (const char* file : {"model/model.safetensors", "model/config.json", "metrics.jsonl"}) {
    EXPECT_EQ(bytes("whole", file), bytes("parts", file)) << file;
  }
  EXPECT_EQ(read_json(folder_ / "parts/model/config.json")["layers"][0]["experts"], 3);
}

TEST_F(RunTest, RefusesADescriptionThatDoesNotFitItsModel) {
  const auto config = recipe(kImages, {"train.epochs=0"});
  run_recipe(config, options("a"));
  const fs::path file = folder_ / "a" / "model" / "config.json";
  const Json good = read_json(file);
  const auto refused = [&](const std::function<void(Json&)>& change) {
    Json bad = good;
    change(bad);
    write_json(file, bad);
    EXPECT_THROW(load_model(folder_ / "a" / "model"), FormatError) << bad["layers"].dump();
  };
  refused([](Json& json) { json["layers"][0]["kept"] = {0, 9}; });
  refused([](Json& json) { json["layers"][0]["kept"] = Json::array(); });
  refused([](Json& json) { json["layers"][0]["kept"] = {0, -1}; });
  refused([](Json& json) { json["layers"][0]["kept"] = "all"; });
  refused([](Json& json) { json["layers"][0]["experts"] = 7; });
  refused([](Json& json) { json["layers"][0]["name"] = "other"; });
  refused([](Json& json) { json["layers"] = Json::array(); });
  refused([](Json& json) { json["layers"] = 3; });
  refused([](Json& json) { json.erase("model"); });
}

}  // namespace
}  // namespace moekit::classification
