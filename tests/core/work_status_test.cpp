#include "moekit/core/work_status.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit {
namespace {
namespace fs = std::filesystem;

TEST(Pace, TellsTheTimeLeftFromWholeEpochsOnceThereIsOne) {
  double now = 1000;
  Pace pace(100, 10, [&] { return now; });
  pace.start_at(20);
  EXPECT_EQ(pace.status(2, 20, 1).seconds_left, 0);  // nothing is known
  now += 5;                                          // 5 steps of a second each
  auto status = pace.status(2, 25, 0.5);
  EXPECT_EQ(status.epochs, 10);
  EXPECT_DOUBLE_EQ(status.step_seconds, 1);
  EXPECT_DOUBLE_EQ(status.epoch_seconds, 0);
  EXPECT_DOUBLE_EQ(status.seconds_left, 75);
  now += 5 + 10;  // the rest of the epoch, and a test of ten seconds
  pace.end_epoch(30);
  EXPECT_DOUBLE_EQ(pace.status(3, 30, 0.5).epoch_seconds, 20);
  EXPECT_DOUBLE_EQ(pace.status(3, 30, 0.5).seconds_left, 140);
  now += 5;
  EXPECT_DOUBLE_EQ(pace.status(3, 35, 0.5).seconds_left, 130);  // it shrinks with every step
  EXPECT_EQ(pace.status(10, 100, 0.5).seconds_left, 0);
}

TEST(WorkStatus, IsDescribedInWordsThatFitTheWork) {
  WorkStatus status{2, 20, 412, 2000, 0.312149, 0.008, 0, 13};
  EXPECT_EQ(describe(status), "epoch 3/20, step 412/2000, 125 steps/s, loss 0.3121, 13 s left");
  status = {20, 20, 20, 20, 0.5, 3, 3, 0};  // a step an epoch, all done
  EXPECT_EQ(describe(status), "epoch 20/20, 3.0 s/step, loss 0.5");
}

TEST(WorkStatus, GoesThroughAFileAndNothingElseIsOne) {
  const fs::path file = fs::temp_directory_path() / concat("moekit-status-", ::getpid());
  EXPECT_FALSE(read_status(file));
  write_status(file, {2, 20, 412, 2000, 0.5, 0.008, 0.8, 13});
  EXPECT_EQ(read_status(file)->steps, 2000);
  EXPECT_EQ(read_status(file)->seconds_left, 13);
  write_file_atomic(file, "{\"epoch\": -1}");
  EXPECT_FALSE(read_status(file));
  fs::remove(file);
  EXPECT_THROW(write_status("/nonexistent/status", {}), IoError);
}

}  // namespace
}  // namespace moekit
