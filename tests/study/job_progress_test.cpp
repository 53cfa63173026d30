#include "moekit/study/job_progress.h"

#include <gtest/gtest.h>

namespace moekit::study {
namespace {

using State = JobView::State;

/// An epoch takes two seconds; `epoch` of ten are done.
WorkStatus at_epoch(int64_t epoch) {
  const double left = 2.0 * static_cast<double>(10 - epoch);
  return {epoch, 10, 10 * epoch, 100, 0.25, 0.1, epoch > 0 ? 2.0 : 0.0, left};
}

TEST(TimeLeft, ComesFromFinishedEpochsAndJobsOfTheSameKind) {
  std::vector<JobView> jobs = {{"a/seed1", "a", State::kRunning, {}},
                               {"b/seed1", "b", State::kWaiting, {}},
                               {"a/seed2", "a", State::kWaiting, {}}};
  EXPECT_FALSE(time_left(jobs, 1));  // nothing is known
  jobs[0].status = at_epoch(4);
  // 12 s of the first, and 20 s each of the others: b is taken to be like a.
  EXPECT_DOUBLE_EQ(*time_left(jobs, 1), 52);
  EXPECT_DOUBLE_EQ(*time_left(jobs, 2), 26);
  EXPECT_DOUBLE_EQ(*time_left(jobs, 8), 20);  // not less than the longest
  jobs[0].status = at_epoch(5);
  EXPECT_DOUBLE_EQ(*time_left(jobs, 1), 50);  // shrinks as epochs end
  jobs[0].state = State::kEnded;
  jobs[1].state = State::kRunning;
  jobs[1].status = WorkStatus{1, 10, 10, 100, 0.5, 1, 10, 90};  // five times as slow
  EXPECT_DOUBLE_EQ(*time_left(jobs, 1), 90 + 20);  // the other seed of a is like the first
  jobs[1].state = jobs[2].state = State::kEnded;
  EXPECT_DOUBLE_EQ(*time_left(jobs, 1), 0);
}

TEST(JobProgress, ShowsEpochRateAndLossOfWhatRunsAsFarAsItFits) {
  const std::vector<JobView> jobs = {{"a/seed1", "a", State::kEnded, at_epoch(10)},
                                     {"a/seed2", "a", State::kRunning, at_epoch(4)},
                                     {"a/seed3", "a", State::kRunning, at_epoch(0)},
                                     {"a/seed4", "a", State::kWaiting, {}}};
  const std::string first = "a/seed2: epoch 5/10, 2.0 s/epoch, loss 0.25";
  const std::string second = "a/seed3: epoch 1/10, 10 steps/s, loss 0.25";
  // (12 + 10 + 15) / 2: the one that waits is taken for the mean of 20 and 10.
  auto in_steps = jobs;
  in_steps[2].status->seconds_left = 10;
  EXPECT_EQ(describe(in_steps, 1, 2, 0, 0),
            "runs: 1/4, 1 failed, 19 s left | " + first + " | " + second);
  EXPECT_EQ(describe(in_steps, 0, 2, 80, 0), "runs: 1/4, 19 s left | " + first);
  EXPECT_EQ(describe(in_steps, 0, 2, 80, 1), "runs: 1/4, 19 s left | " + second);
}

TEST(TimeLeft, OfShortEpochsAndWithoutAnyOfSteps) {
  std::vector<JobView> jobs = {{"a/seed1", "a", State::kEnded, {}},
                               {"a/seed2", "a", State::kWaiting, {}}};
  jobs[0].status = WorkStatus{10, 10, 100, 100, 0.5, 0.01, 0.25, 0};
  EXPECT_DOUBLE_EQ(*time_left(jobs, 1), 2.5);
  jobs[0].status = WorkStatus{0, 10, 5, 100, 0.5, 0.01, 0, 0};
  EXPECT_DOUBLE_EQ(*time_left(jobs, 1), 1);
  jobs[0].status = WorkStatus{0, 10, 0, 100, 0.5, 0, 0, 0};  // nothing is known yet
  EXPECT_FALSE(time_left(jobs, 1));
}

TEST(JobProgress, ShowsWhatIsKnownOfAJobThatBegins) {
  std::vector<JobView> jobs = {{"a", "a", State::kRunning, {}}};
  EXPECT_EQ(describe(jobs, 0, 1, 0, 0), "runs: 0/1 | a");
  jobs[0].status = WorkStatus{0, 3, 0, 30, 0.5, 0, 0, 0};
  EXPECT_EQ(describe(jobs, 0, 1, 0, 0), "runs: 0/1 | a: epoch 1/3, loss 0.5");
  jobs[0].status = WorkStatus{3, 3, 30, 30, 0.5, 0, 0.5, 0};  // saves its model
  EXPECT_EQ(describe(jobs, 2, 1, 0, 0),
            "runs: 0/1, 2 failed, 0 s left | a: epoch 3/3, 2.0 epochs/s, loss 0.5");
  jobs[0].state = State::kEnded;
  EXPECT_EQ(describe(jobs, 0, 1, 0, 3), "runs: 1/1, 0 s left");
}

TEST(JobProgress, AJobIsShownForThreeSeconds) {
  EXPECT_EQ(turn_at(0), 0U);
  EXPECT_EQ(turn_at(2.9), 0U);
  EXPECT_EQ(turn_at(3), 1U);
  EXPECT_EQ(turn_at(10), 3U);
}

}  // namespace
}  // namespace moekit::study
