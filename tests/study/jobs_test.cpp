#include "moekit/study/jobs.h"

#include <gtest/gtest.h>
#include <sched.h>

#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit::study {
namespace {
namespace fs = std::filesystem;

class JobsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-jobs-", ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(JobsTest, CountsTheProcessorsItMayUse) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
  EXPECT_EQ(usable_processors(), CPU_COUNT(&all));
  int first = 0;
  while (!CPU_ISSET(first, &all)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(usable_processors(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(all), &all), 0);
}

TEST_F(JobsTest, JobsRunAfterThoseTheyNeed) {
  const auto touch = [&](const std::string& name, const std::string& needs) {
    return Job{name,
               {"/bin/sh", "-c",
                (needs.empty() ? "" : "test -e " + (folder_ / needs).string() + " && ") + "touch " +
                    (folder_ / name).string()},
               needs.empty() ? std::vector<std::string>{} : std::vector<std::string>{needs},
               folder_ / "logs" / name};
  };
  EXPECT_TRUE(run_jobs({touch("a", ""), touch("b", "a"), touch("c", "b")}, 2, true).empty());
  EXPECT_TRUE(fs::exists(folder_ / "c"));
}

TEST_F(JobsTest, AFailedJobIsReportedWithItsLastLineAndTakesItsFollowersAlong) {
  const Job bad{
      "bad", {"/bin/sh", "-c", "echo first; echo the reason >&2; exit 3"}, {}, folder_ / "l"};
  const Job next{"next", {"/bin/true"}, {"bad"}, folder_ / "l2"};
  const auto failures = run_jobs({bad, next}, 1, true);
  EXPECT_EQ(failures.at("bad"), "the reason");
  EXPECT_EQ(failures.at("next"), "needs bad, which failed");
  EXPECT_THROW(run_jobs({next}, 1, true), ArgumentError);
}

TEST_F(JobsTest, AJobThatEndsWithoutAWordHasAReason) {
  const Job killed{"killed", {"/bin/sh", "-c", "kill -9 $$"}, {}, folder_ / "l"};
  const Job silent{"silent", {"/bin/sh", "-c", "exit 3"}, {}, folder_ / "l2"};
  const auto failures = run_jobs({killed, silent}, 1, true);
  EXPECT_EQ(failures.at("killed"), "killed by signal 9 (Killed)");
  EXPECT_EQ(failures.at("silent"), "ended with code 3 and said nothing");
}

TEST_F(JobsTest, WhatAJobToldOfItselfIsRemovedWithIt) {
  const fs::path status = folder_ / "a.status";
  write_file_atomic(status, "left by one that was killed");
  const Job job{
      "a",    {"/bin/sh", "-c", "test ! -e " + status.string() + " && touch " + status.string()},
      {},     folder_ / "l",
      status, "a"};
  EXPECT_TRUE(run_jobs({job}, 1, true).empty());
  EXPECT_FALSE(fs::exists(status));
}

}  // namespace
}  // namespace moekit::study
