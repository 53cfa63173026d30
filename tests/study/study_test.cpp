#include "moekit/study/study.h"

#include <gtest/gtest.h>
#include <sched.h>

#include "moekit/core/files.h"
#include "moekit/study/jobs.h"

namespace moekit::study {
namespace {
namespace fs = std::filesystem;

class StudyTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-study-", ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void summary(const std::string& row, int seed, double error) {
    const fs::path run = folder_ / row / concat("seed", seed);
    fs::create_directories(run);
    write_file_atomic(run / "summary.json", Json{{"test", {{"error", error}}}}.dump());
  }
  Study read(const std::string& toml) {
    write_file_atomic(folder_ / "study.toml", toml);
    return read_study(folder_ / "study.toml");
  }
  fs::path folder_;
};

constexpr const char* kRows = R"(
title = "t"
[[row]]
name = "g/a"
tier = "quick"
recipe = "a.toml"
paper = { test_error = 0.5 }
[[row]]
name = "g/b"
tier = "quick"
recipe = "b.toml"
[[claim]]
text = "a beats b"
source = "paper"
tier = "quick"
check = [{ left = "g/a.test_error", op = "<", right = "g/b.test_error" }]
)";

TEST_F(StudyTest, JudgesAClaimOnMeansOverSeeds) {
  const Study study = read(kRows);
  for (int seed = 1; seed <= 2; ++seed) {
    summary("g/a", seed, 0.1 * seed);
    summary("g/b", seed, 0.2 * seed);
  }
  std::vector<RowResult> rows;
  for (const auto& row : study.row) rows.push_back(gather_row(row, study.figure, folder_, 3));
  EXPECT_NEAR(rows[0].cells["test_error"].ours.mean, 0.15, 1e-12);
  EXPECT_EQ(rows[0].cells["test_error"].ours.count, 2U);
  EXPECT_EQ(*rows[0].cells["test_error"].paper, 0.5);
  EXPECT_EQ(judge(study.claim[0], study.figure, rows).verdict, Verdict::kHeld);
  std::swap(rows[0].cells, rows[1].cells);
  EXPECT_EQ(judge(study.claim[0], study.figure, rows).verdict, Verdict::kNotHeld);
  rows[1].cells.clear();
  const auto untested = judge(study.claim[0], study.figure, rows);
  EXPECT_EQ(untested.verdict, Verdict::kNotTested);
  EXPECT_EQ(untested.detail, "g/b: not run");
}

TEST_F(StudyTest, AppliesFactorAndOffset) {
  const Study study = read(kRows);
  summary("g/a", 1, 0.30);
  summary("g/b", 1, 0.40);
  std::vector<RowResult> rows;
  for (const auto& row : study.row) rows.push_back(gather_row(row, study.figure, folder_, 1));
  Claim claim = study.claim[0];
  claim.check[0].factor = 0.7;
  EXPECT_EQ(judge(claim, study.figure, rows).verdict, Verdict::kNotHeld);  // 0.28
  claim.check[0].offset = 0.05;
  EXPECT_EQ(judge(claim, study.figure, rows).verdict, Verdict::kHeld);  // 0.33
}

TEST_F(StudyTest, JudgesRowsAgainstThePaperAndCapsSeeds) {
  Study study = read(std::string(R"(
figure = [{ name = "test_error", title = "error", pointer = "/test/error", better = "lower" }]
)") + kRows);
  for (int seed = 1; seed <= 4; ++seed) summary("g/a", seed, 0.48 + 0.02 * (seed % 2));
  const auto verdict = [&](double paper) {
    study.row[0].paper = {{"test_error", paper}};
    return gather_row(study.row[0], study.figure, folder_, 4).cells["test_error"].verdict;
  };
  // Our mean is 0.49 with standard error 0.0058.
  EXPECT_EQ(verdict(0.50), "reproduced: within 2 s.e.");
  EXPECT_EQ(verdict(0.55), "reproduced: ours is better");
  EXPECT_EQ(verdict(0.45), "not reproduced");
  study.row[0].seeds = 2;
  EXPECT_EQ(gather_row(study.row[0], study.figure, folder_, 4).runs.size(), 2U);
}

TEST_F(StudyTest, PrintsTheSameFiguresAsTextMarkdownAndJson) {
  const Study study = read(kRows);
  summary("g/a", 1, 0.1234);
  std::vector<RowResult> rows = {gather_row(study.row[0], study.figure, folder_, 1)};
  const std::vector<ClaimResult> claims = {judge(study.claim[0], study.figure, rows)};
  EXPECT_NE(to_text(study, rows, claims).find("0.1234"), std::string::npos);
  EXPECT_NE(to_markdown(study, rows, claims, "cmd").find("0.1234"), std::string::npos);
  const Json json = to_json(study, rows, claims);
  EXPECT_EQ(json["rows"][0]["figures"]["test_error"]["mean"], 0.1234);
  EXPECT_EQ(json["claims"][0]["verdict"], "not tested");
}

TEST_F(StudyTest, RefusesUnknownRowsFiguresAndOperators) {
  const std::string text = kRows;
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  EXPECT_THROW(read(with("right = \"g/b.", "right = \"g/c.")), ArgumentError);
  EXPECT_THROW(read(with("g/a.test_error", "g/a.speed")), ArgumentError);
  EXPECT_THROW(read(with("\"<\"", "\"~\"")), ArgumentError);
  EXPECT_THROW(read(with("tier = \"quick\"", "tier = \"slow\"")), ArgumentError);
  EXPECT_THROW(read(with("title", "titel")), ArgumentError);
}

TEST_F(StudyTest, CountsTheProcessorsItMayUse) {
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

TEST_F(StudyTest, JobsRunAfterThoseTheyNeed) {
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

TEST_F(StudyTest, AFailedJobIsReportedWithItsLastLineAndTakesItsFollowersAlong) {
  const Job bad{
      "bad", {"/bin/sh", "-c", "echo first; echo the reason >&2; exit 3"}, {}, folder_ / "l"};
  const Job next{"next", {"/bin/true"}, {"bad"}, folder_ / "l2"};
  const auto failures = run_jobs({bad, next}, 1, true);
  EXPECT_EQ(failures.at("bad"), "the reason");
  EXPECT_EQ(failures.at("next"), "needs bad, which failed");
  EXPECT_THROW(run_jobs({next}, 1, true), ArgumentError);
}

}  // namespace
}  // namespace moekit::study
