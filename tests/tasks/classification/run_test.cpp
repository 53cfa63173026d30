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

namespace moekit::classification {
namespace {
namespace fs = std::filesystem;
using models::load_model;
using run::list_checkpoints;
using run::read_metrics;
using run::read_summary;
using run::RunStatus;

/// A recipe of these overrides, on a base in TOML.
Config recipe(const std::string& toml, const std::vector<std::string>& set = {}) {
  ConfigTree tree = parse_toml(toml, "test");
  for (const auto& assignment : set) apply_override(tree, assignment);
  Config config;
  bind_config(tree, config);
  return config;
}

constexpr const char* kImages = R"(
data = { name = "synthetic-clusters", validation = 200 }
loss = { importance = 0.1 }
train = { epochs = 4, batch_size = 100, schedule = "cosine" }
[model]
num_experts = 4
expert = { kind = "mlp", intermediate_size = 8 }
router = { noise = "gaussian" }
)";

class RunTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-run-", ::getpid());
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  run::RunOptions options(const std::string& name, bool resume = false) {
    return {folder_ / name, "", resume, true};
  }
  std::string bytes(const std::string& name, const std::string& file) {
    return read_file(folder_ / name / file);
  }
  fs::path folder_;
  Config config_ = recipe(kImages);
};

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

TEST_F(RunTest, WritesWhatAFinishedRunNeedsAndInspectsIt) {
  run_recipe(config_, options("a"));
  const Json summary = read_summary(folder_ / "a");
  EXPECT_EQ(summary["epochs"], 4);
  EXPECT_EQ(read_metrics(folder_ / "a").size(), 4U);
  const Json inspected =
      inspect_run(folder_ / "a", load_run_data(config_, ""), (folder_ / "a").string());
  const Json& layer = inspected["layers"][0];
  EXPECT_EQ(layer["router_saturation"], 1.0);
  EXPECT_EQ(layer["by_cluster"]["counts"].size(), 4U);
  double shares = 0;
  for (const auto& share : layer["usage"]) shares += share.get<double>();
  EXPECT_NEAR(shares, 1, 1e-9);
  EXPECT_EQ(layer["output_cka_estimator"], "unbiased");
  EXPECT_EQ(layer["subset_retention"]["baseline_subsets"], 4);  // of 1 of 4 experts
  EXPECT_EQ(layer["subset_retention"]["baseline_exact"], true);
  const auto html = report::render(run::make_report(
      run::group_by_recipe({folder_ / "a"}),
      [](const fs::path&) -> const run::Task& { return task(); }, ""));
  EXPECT_NE(html.find("Which expert gets a true cluster"), std::string::npos);
  EXPECT_NE(html.find("data:image/png;base64,"), std::string::npos);
}

/// Writes a run's trace anew, changed.
template <typename Change>
void change_trace(const fs::path& folder, Change change) {
  const fs::path path = folder / "trace.safetensors";
  auto trace = metrics::read_trace(path);
  change(trace);
  metrics::write_trace(folder / "changed", trace);
  fs::rename(folder / "changed", path);
}

TEST_F(RunTest, InspectionRefusesATraceThatDoesNotFitTheRun) {
  config_.train.loop.keep_every = 2;
  run_recipe(config_, options("a"));
  const auto data = load_run_data(config_, "");
  fs::copy(folder_ / "a", folder_ / "b", fs::copy_options::recursive);
  const auto refusal = [&](auto change) -> std::string {
    fs::copy_file(folder_ / "b" / "trace.safetensors", folder_ / "a" / "trace.safetensors",
                  fs::copy_options::overwrite_existing);
    change_trace(folder_ / "a", change);
    try {
      inspect_run(folder_ / "a", data);
    } catch (const FormatError& error) {
      return error.what();
    }
    return "no error";
  };
  const std::string file = (folder_ / "a" / "trace.safetensors").string();
  EXPECT_EQ(refusal([](auto& t) { t.labels.erase("predicted"); }),
            file + ": labels.predicted is missing");
  EXPECT_EQ(refusal([](auto& t) { t.labels["label"].fill_(7); }),
            file + ": labels.label has 7 at [0]; wanted 0..1");
  EXPECT_EQ(refusal([](auto& t) {
              for (auto& [name, labels] : t.labels) labels = labels.slice(0, 0, 10);
              auto& layer = t.layers[0];
              layer = {layer.name, torch::arange(10), torch::zeros({10}, torch::kLong),
                       layer.probs.slice(0, 0, 10)};
              t.expert_log_probs = t.expert_log_probs.slice(1, 0, 10);
            }),
            file + ": labels.label is of 10 images; the run is tested on 1000");
  EXPECT_EQ(refusal([](auto& t) {
              t.expert_log_probs = t.expert_log_probs.repeat({1, 1, 2});
            }),
            file + ": expert_log_probs is of 4 classes; the run has 2");
  EXPECT_EQ(refusal([](auto& t) { t.labels["cluster"].fill_(2'000'000'000); }),
            file + ": labels.cluster has 2000000000 at [0]; wanted 0..3");
  // More layers than the model has: once a read beyond the end.
  EXPECT_NE(refusal([](auto& t) {
              t.layers.push_back(t.layers[0]);
              t.layers[1].name = "other";
            }).find(": layer other of 4 experts is none of the model's"),
            std::string::npos);
  // Experts whose outputs do not vary: no similarity, and no refusal.
  EXPECT_EQ(refusal([](auto& t) { t.expert_log_probs.fill_(-0.7); }), "no error");
  const Json constant = inspect_run(folder_ / "a", data)["layers"][0];
  EXPECT_EQ(constant["output_cka_left_out"], 6);
  EXPECT_EQ(Json::parse(constant.dump())["output_cka_mean"], Json());
  // Another run's trace.
  EXPECT_NE(refusal([](auto&) {}).find("no error"), std::string::npos);
  change_trace(folder_ / "b", [](auto& t) { t.layers[0].name = "other"; });
  EXPECT_THROW(inspect_run(folder_ / "a", data, (folder_ / "b").string()), FormatError);
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
  EXPECT_THROW(run_recipe(student, options("other")), IoError);
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

TEST_F(RunTest, AnExtendedRunEqualsOneThatWasLongerFromTheStart) {
  const std::vector<std::string> constant = {"train.schedule=constant", "train.warmup_steps=3"};
  auto config = recipe(kImages, constant);
  const auto extended = [&](const std::string& name) {
    auto out = options(name, true);
    out.extend = true;
    return out;
  };
  run_recipe(config, options("long"));
  config.train.loop.epochs = 2;
  ASSERT_EQ(run_recipe(config, options("grown")), RunStatus::kFinished);
  config.train.loop.epochs = 4;
  config.train.loop.keep_every = 1;
  ASSERT_EQ(run_recipe(config, extended("grown")), RunStatus::kFinished);
  for (const char* file : {"model/model.safetensors", "metrics.jsonl", "trace.safetensors"}) {
    EXPECT_EQ(bytes("long", file), bytes("grown", file)) << file;
  }
  EXPECT_EQ(read_summary(folder_ / "grown")["epochs"], 4);
  EXPECT_EQ(read_config(folder_ / "grown").train.loop.keep_every, 1);
  // And again, interrupted on the way.
  config.train.loop.epochs = 5;
  const InterruptGuard guard;
  std::raise(SIGINT);
  EXPECT_EQ(run_recipe(config, extended("grown")), RunStatus::kInterrupted);
  EXPECT_THROW(read_summary(folder_ / "grown"), IoError);
  const InterruptGuard calm;
  EXPECT_EQ(run_recipe(config, options("grown", true)), RunStatus::kFinished);
  EXPECT_EQ(read_metrics(folder_ / "grown").size(), 5U);
}

TEST_F(RunTest, WhatMayNotChangeOnResumeIsRefusedByNameWithBothValues) {
  config_.train.loop.epochs = 1;
  ASSERT_EQ(run_recipe(config_, options("a")), RunStatus::kFinished);
  const auto before = bytes("a", "config.toml") + bytes("a", "summary.json");
  const auto refusal = [&](const std::vector<std::string>& set, bool extend = true) {
    auto out = options("a", true);
    out.extend = extend;
    auto all = set;
    if (all.empty() || all.back().find("epochs") == std::string::npos) {
      all.emplace_back("train.epochs=1");
    }
    std::string text = "accepted";
    try {
      run_recipe(recipe(kImages, all), out);
    } catch (const ArgumentError& error) {
      text = error.what();
    }
    EXPECT_EQ(before, bytes("a", "config.toml") + bytes("a", "summary.json")) << text;
    return text;
  };
  const auto expect_part = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const auto two = refusal({"train.lr=0.5", "model.expert.intermediate_size=9", "train.epochs=2"});
  expect_part(two, "train.lr was 0.001, now 0.5");
  expect_part(two, "model.expert.intermediate_size was 8, now 9");
  EXPECT_EQ(two.find("epochs"), std::string::npos) << two;
  expect_part(refusal({"train.optimizer=sgd"}), "train.beta1 was 0.9, now not there");
  expect_part(refusal({"seed=2"}), "seed was 1, now 2");
  expect_part(refusal({"train.epochs=0"}), "has taken 18 steps; the changed recipe has 0");
  expect_part(refusal({"train.keep_every=2"}), "leaves nothing to do");
  expect_part(refusal({"train.epochs=3"}, /*extend=*/false), "train.epochs was 1, now 3");
  EXPECT_EQ(refusal({}), "accepted");  // the same recipe, finished
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

/// Steps and figures of a run's event files.
std::vector<std::pair<int64_t, events::Figures>> events_of(const fs::path& run) {
  std::vector<std::pair<int64_t, events::Figures>> out;
  for (const auto& file : events::list_event_files(run)) {
    events::RecordReader reader(file);
    while (const auto record = reader.next()) {
      const auto event = events::decode(*record).value();
      if (event.figures) out.emplace_back(event.step, *event.figures);
    }
    EXPECT_EQ(reader.position(), reader.size()) << file;
  }
  return out;
}

TEST_F(RunTest, WritesEventsThatEqualItsMetricsHoweverOftenItIsStopped) {
  config_.train.loop.checkpoint_steps = 3;
  int stops = 0;
  for (auto status = RunStatus::kInterrupted; status == RunStatus::kInterrupted; ++stops) {
    const InterruptGuard guard;
    if (stops < 12) std::raise(SIGINT);
    status = run_recipe(config_, options("a", stops > 0));
    // What was written after the last checkpoint, or torn by a crash, is written again.
    const auto files = events::list_event_files(folder_ / "a");
    if (!files.empty() && status == RunStatus::kInterrupted) {
      fs::resize_file(files.back(), fs::file_size(files.back()) - 5);
    }
  }
  EXPECT_GT(stops, 10);
  const auto lines = read_metrics(folder_ / "a");
  const auto found = events_of(folder_ / "a");
  ASSERT_EQ(found.size(), lines.size());
  ASSERT_EQ(lines.size(), 4U);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(found[i].first, lines[i]["step"].get<int64_t>());
    EXPECT_EQ(found[i].second, events::figures_of(lines[i]));
    ASSERT_EQ(found[i].second.histograms.size(), 1U);
    EXPECT_EQ(found[i].second.histograms[0].second,
              events::load_histogram(lines[i]["test"]["layers"]["mixture"]["usage"]));
  }
  config_.events = false;
  ASSERT_EQ(run_recipe(config_, options("without")), RunStatus::kFinished);
  EXPECT_TRUE(events::list_event_files(folder_ / "without").empty());
}

TEST_F(RunTest, APageTellsWhatWasFoundAndNamesClasses) {
  ASSERT_EQ(run_recipe(config_, options("a-seed1")), RunStatus::kFinished);
  config_.seed = 2;
  ASSERT_EQ(run_recipe(config_, options("a-seed2")), RunStatus::kFinished);
  config_.train.loop.epochs = 0;
  ASSERT_EQ(run_recipe(config_, options("b-seed1")), RunStatus::kFinished);
  const auto page = run::make_report(
      run::group_by_recipe({folder_ / "a-seed1", folder_ / "a-seed2", folder_ / "b-seed1"}),
      [](const fs::path&) -> const run::Task& { return task(); }, "");
  EXPECT_EQ(page.lead.rfind("Each map shows ", 0), 0U) << page.lead;
  // The untrained recipe has the larger error.
  EXPECT_NE(page.lead.find("the test error is lowest with “a” ("), std::string::npos) << page.lead;
  ASSERT_EQ(page.tables.size(), 1U);  // one table
  const auto& table = page.tables[0].second;
  EXPECT_EQ(table.rows[0][1], "2");
  EXPECT_NE(table.rows[0][2].find(" ± "), std::string::npos);
  EXPECT_EQ(table.rows[1][1], "1");
  for (const auto& cell : table.rows[1]) EXPECT_EQ(cell.find("±"), std::string::npos) << cell;
  const auto& model = page.models.at(0);
  const auto names = load_run_data(config_, "").class_names;
  ASSERT_EQ(model.overview_maps.size(), 1U);
  auto rows = names;
  rows.emplace_back("all");
  EXPECT_EQ(model.overview_maps[0].row_labels, rows);
  EXPECT_EQ(model.overview_maps[0].column_labels.size(), 4U);
  // Classes by expert: the shares of a class add up.
  for (const auto& row : model.overview_maps[0].values) {
    EXPECT_NEAR(row[0] + row[1] + row[2] + row[3], 1.0, 1e-6);
  }
  ASSERT_FALSE(model.confusion.empty());
  for (const auto& map : model.confusion) {
    EXPECT_EQ(map.row_labels, names);
    EXPECT_EQ(map.column_labels, names);
  }
}

TEST(Findings, NameTheRecipesThatStandOut) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const run::ReportFigure bits{"I", "", "", "bit", "most divided by", "least by"};
  const run::ReportFigure error{"error", "", "", "", "", "the error is lowest with"};
  const run::ReportFigure silent{"loss", ""};
  EXPECT_EQ(
      run::findings({bits, silent, error}, {"a", "b", "c"},
                    {{none, 2.5, 1}, {9, 8, 7}, {0.25, 0.125, 0.125}}),
      "most divided by “b” (I 2.5 bit), least by “c” (1 bit), and the error is lowest with “b” "
      "and “c” (0.125)");
  EXPECT_EQ(run::findings({bits, error}, {"a"}, {{2}, {0.5}}), "I is 2 bit and error is 0.5");
  EXPECT_EQ(run::findings({bits}, {"a"}, {{none}}), "");
}

TEST(RecipeName, LeavesTheSeedOut) {
  EXPECT_EQ(run::recipe_name("runs/original-seed3"), "original");
  EXPECT_EQ(run::recipe_name("runs/original/seed3"), "original");
  EXPECT_EQ(run::recipe_name("runs/plain"), "plain");
}

}  // namespace
}  // namespace moekit::classification
