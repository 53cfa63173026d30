#include "moekit/train/run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <csignal>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/data/sets/cluster_patch.h"
#include "moekit/train/inspection.h"
#include "moekit/train/run_report.h"
#include "moekit/train/task.h"

namespace moekit::train {
namespace {
namespace fs = std::filesystem;

class RunTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-run-", ::getpid());
    fs::remove_all(folder_);
    config_.data.set.select("synthetic-clusters");
    config_.data.validation = 200;
    config_.model.num_experts = 4;
    config_.model.expert.kind = models::ExpertKind::kMlp;
    config_.model.expert.intermediate_size = 8;
    config_.model.router.noise = nn::RouterNoise::kGaussian;
    config_.loss.importance = 0.1;
    config_.train.epochs = 4;
    config_.train.batch_size = 100;
    config_.train.schedule = Schedule::kCosine;
  }
  void TearDown() override { fs::remove_all(folder_); }
  RunOptions options(const std::string& name, bool resume = false) {
    return {folder_ / name, "", resume, true};
  }
  std::string bytes(const std::string& name, const std::string& file) {
    return read_file(folder_ / name / file);
  }
  fs::path folder_;
  RunConfig config_;
};

TEST_F(RunTest, AnInterruptedRunGoesOnToTheSameNumbersBitForBit) {
  ASSERT_EQ(run_recipe(config_, options("whole")), RunStatus::kFinished);
  config_.train.checkpoint_steps = 1;
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
  const auto html = report::render(make_report(
      group_by_recipe({folder_ / "a"}), [](const std::string& title, const fs::path& run) {
        return classification_task().section(title, run, "");
      }));
  EXPECT_NE(html.find("Which expert gets a true cluster"), std::string::npos);
  EXPECT_NE(html.find("data:image/png;base64,"), std::string::npos);
}

TEST_F(RunTest, KeepsCheckpointsAndTellsWhenTheRouterWasSettled) {
  config_.train.keep_every = 2;
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
  config_.train.lr = 0.5;
  EXPECT_THROW(run_recipe(config_, options("a", true)), ArgumentError);
}

/// A small cluster-patch problem on eight two-layer networks, full batch.
RunConfig cluster_recipe() {
  RunConfig config;
  config.data.set.select("cluster-patch");
  auto& patches = config.data.set.as<data::ClusterPatchOptions>();
  patches.num_train = 1000;
  patches.num_test = 500;
  config.model.kind = models::ModelKind::kSparseMixture;
  config.model.num_experts = 8;
  config.model.output_loss = models::OutputLoss::kDoubleSoftmax;
  config.model.expert.kind = models::ExpertKind::kPatch;
  config.model.expert.activation = nn::Activation::kCubic;
  config.model.expert.init_scale = 1e-3;
  auto& router = config.model.router;
  router.input = models::RouterInput::kPatchSum;
  router.top_k = 1;
  router.combine_weights = nn::CombineWeights::kLogits;
  router.noise = nn::RouterNoise::kUniform;
  router.init = nn::RouterInit::kZero;
  router.bias = false;
  config.train.epochs = 40;
  config.train.batch_size = 1000;
  config.train.optimizer = OptimizerKind::kNormalizedGd;
  config.train.groups = {{"moe.experts", 1, 0, true}, {"moe.router", 100, 0, false}};
  config.train.evaluate_every = 15;
  config.train.noisy_test = true;
  return config;
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
  const auto section = classification_task().section("a", folder_ / "a", "");
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
  config.train.stop_below = 10;  // met at once,
  config.train.stop_from_epoch = 7;
  run_recipe(config, options("low"));
  EXPECT_EQ(read_summary(folder_ / "low")["epochs"], 7);
  config.train.stop_below = 0;
  config.train.lr = 3;  // jumps about
  config.train.stop_rise = 1e-6;
  run_recipe(config, options("rise"));
  EXPECT_LT(read_summary(folder_ / "rise")["epochs"], 40);
  EXPECT_EQ(read_summary(folder_ / "rise")["stopped_early"], true);
}

TEST_F(RunTest, NamesStepAndTensorWhenNumbersAreNoLongerFinite) {
  auto config = cluster_recipe();
  config.train.lr = 1e30;
  try {
    run_recipe(config, options("a"));
    FAIL();
  } catch (const NumericError& error) {
    EXPECT_NE(std::string(error.what()).find("step"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("moe."), std::string::npos) << error.what();
  }
}

TEST_F(RunTest, StopsEarlyWithoutAGainInValidationLoss) {
  config_.train.epochs = 50;
  config_.train.lr = 1e-30;  // lost in rounding: the weights stay, and so does the loss
  config_.train.patience = 2;
  config_.train.optimizer = OptimizerKind::kSgd;
  run_recipe(config_, options("a"));
  EXPECT_EQ(read_summary(folder_ / "a")["epochs"], 3);  // the first, and two without a gain
  EXPECT_EQ(read_summary(folder_ / "a")["stopped_early"], true);
}

TEST_F(RunTest, CountsTestsNotEpochsWithoutAGain) {
  config_.train.epochs = 50;
  config_.train.lr = 1e-30;
  config_.train.patience = 2;
  config_.train.optimizer = OptimizerKind::kSgd;
  config_.train.evaluate_every = 2;
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

TEST(RecipeName, LeavesTheSeedOut) {
  EXPECT_EQ(recipe_name("runs/original-seed3"), "original");
  EXPECT_EQ(recipe_name("runs/original/seed3"), "original");
  EXPECT_EQ(recipe_name("runs/plain"), "plain");
}

}  // namespace
}  // namespace moekit::train
