#include "moekit/tasks/soft_routed/task.h"

#include <gtest/gtest.h>

#include <csignal>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"

namespace moekit::soft_routed {
namespace {
namespace fs = std::filesystem;

class SoftRoutedTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-soft-", ::getpid());
    fs::remove_all(folder_);
    recipe_.values = {
        {"task", "soft_routed"}, {"dim", 8},   {"teacher_pairs", 1},    {"student_pairs", 3},
        {"batch_size", 256},     {"time", 10}, {"fine_tune_steps", 50}, {"test_samples", 2000}};
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string refusal(const char* key, const Json& value) {
    auto recipe = recipe_;
    recipe.values[key] = value;
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

TEST_F(SoftRoutedTest, ResumesToTheSameNumbers) {
  const auto& run_task = task();
  ASSERT_EQ(run_task.run(recipe_, {folder_ / "whole", "", false, true}), run::RunStatus::kFinished);
  for (int stop = 0; stop < 3; ++stop) {
    const InterruptGuard guard;
    std::raise(SIGINT);
    ASSERT_EQ(run_task.run(recipe_, {folder_ / "parts", "", stop > 0, true}),
              run::RunStatus::kInterrupted);
  }
  const InterruptGuard calm;
  run_task.run(recipe_, {folder_ / "parts", "", true, true});
  for (const char* file : {"model/model.safetensors", "metrics.jsonl"}) {
    EXPECT_EQ(read_file(folder_ / "whole" / file), read_file(folder_ / "parts" / file)) << file;
  }
  const auto section = run_task.section("a", folder_ / "whole", "");
  EXPECT_EQ(section.overview_charts.size(), 1U);
  EXPECT_EQ(section.charts.size(), 1U);
  // w x and v x of each pair that was kept, d = 8.
  const auto kept = run_task.inspect(folder_ / "whole", "", "")["pairs_kept"].get<double>();
  EXPECT_EQ(run_task.operations(folder_ / "whole", "", 5)["operations"].get<double>(),
            2 * 5 * 8 * 2 * kept);
}

TEST_F(SoftRoutedTest, FreezesWhatItIsTold) {
  recipe_.values["frozen"] = "experts";
  recipe_.values["prune"] = false;
  recipe_.values["student_pairs"] = 1;
  recipe_.values["init"] = "overlap";
  task().run(recipe_, {folder_ / "a", "", false, true});
  const auto lines = run::read_metrics(folder_ / "a");
  EXPECT_EQ(lines.front()["rho_v"], lines.back()["rho_v"]);
  EXPECT_NE(lines.front()["rho_w"], lines.back()["rho_w"]);
}

TEST_F(SoftRoutedTest, RefusesWithTheValues) {
  EXPECT_NE(refusal("teacher_pairs", 5).find("got 5"), std::string::npos);
  EXPECT_NE(refusal("student_pairs", 0).find("got 0"), std::string::npos);
  EXPECT_NE(refusal("init", "overlap").find("got 3, 1"), std::string::npos);
  EXPECT_NE(refusal("step", 0.0).find("positive"), std::string::npos);
  EXPECT_NE(refusal("record_every", 1e-300).find("at least step = 0.05; got 1e-300"),
            std::string::npos);
  EXPECT_NE(refusal("gate", "hard").find("softmax"), std::string::npos);
  EXPECT_NE(refusal("nope", 1).find("nope"), std::string::npos);
}

}  // namespace
}  // namespace moekit::soft_routed
