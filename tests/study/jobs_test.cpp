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

std::string refusal_of(const std::vector<Job>& jobs, int64_t parallel) {
  try {
    run_jobs(jobs, parallel, true);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(JobsTest, RefusesWhatCannotBeRun) {
  const Job a{"a", {"/bin/true"}, {}, folder_ / "a"};
  const Job b{"b", {"/bin/true"}, {"a"}, folder_ / "b"};
  EXPECT_EQ(refusal_of({b, a}, 1), "run_jobs: b waits for a, which is not before it");
  EXPECT_EQ(refusal_of({a}, 0), "run_jobs: needs at least one job at a time; got 0");
  EXPECT_EQ(refusal_of({a, b}, 1), "no error");
  const Job none{"none", {(folder_ / "program").string()}, {}, folder_ / "n"};
  EXPECT_EQ(refusal_of({none}, 1),
            "cannot start " + (folder_ / "program").string() + ": No such file or directory");
}

TEST_F(JobsTest, SoManyRunAtATimeInTheOrderGiven) {
  // Each writes how many are there while it runs, and its name.
  const auto count = [&](const std::string& name) {
    const std::string here = folder_.string();
    return Job{
        name,
        {"/bin/sh", "-c",
         "touch " + here + "/on-" + name + "; sleep 0.3; ls " + here + " | grep -c '^on-' >> " +
             here + "/seen; echo " + name + " >> " + here + "/order; rm " + here + "/on-" + name},
        {},
        folder_ / "logs" / name};
  };
  const std::vector<Job> jobs = {count("c"), count("a"), count("b"), count("d")};
  EXPECT_TRUE(run_jobs(jobs, 1, true).empty());
  EXPECT_EQ(read_file(folder_ / "seen"), "1\n1\n1\n1\n");
  EXPECT_EQ(read_file(folder_ / "order"), "c\na\nb\nd\n");
  fs::remove(folder_ / "seen");
  EXPECT_TRUE(run_jobs(jobs, 2, true).empty());
  const std::string seen = read_file(folder_ / "seen");
  EXPECT_NE(seen.find('2'), std::string::npos) << seen;
  EXPECT_EQ(seen.find_first_of("34"), std::string::npos) << seen;
}

TEST_F(JobsTest, OneThatIsDoneIsNotStartedAndCountsForThoseBehindIt) {
  Job done{"done", {"/bin/false"}, {}, folder_ / "l"};
  done.done = true;
  const Job next{"next", {"/bin/true"}, {"done"}, folder_ / "l2"};
  EXPECT_TRUE(run_jobs({done, next}, 1, true).empty());
}

TEST_F(JobsTest, OutputGoesToTheLogAndNothingComesIn) {
  const Job job{"a", {"/bin/sh", "-c", "cat; echo out; echo err >&2"}, {}, folder_ / "deep/l"};
  EXPECT_TRUE(run_jobs({job}, 1, true).empty());
  EXPECT_EQ(read_file(folder_ / "deep/l"), "out\nerr\n");
  // What was said before stands no more; the last line without its end is the reason.
  const Job bad{"a", {"/bin/sh", "-c", "printf 'x\\ny\\n\\n'; exit 1"}, {}, folder_ / "deep/l"};
  EXPECT_EQ(run_jobs({bad}, 1, true).at("a"), "y");
  const Job one{"a", {"/bin/sh", "-c", "printf z; exit 1"}, {}, folder_ / "deep/l"};
  EXPECT_EQ(run_jobs({one}, 1, true).at("a"), "z");
}

}  // namespace
}  // namespace moekit::study
