#include "moekit/study/tune.h"

#include <algorithm>
#include <cmath>

#include "tests/study/study_fixture.h"

namespace moekit::study {
namespace {

constexpr const char* kTuned = R"(
figure = [{ name = "test_error", title = "error", pointer = "/validation/error", better = "lower" }]
[[row]]
name = "g/a"
tier = "quick"
recipe = "a.toml"
set = ["k=0"]
[[row]]
name = "g/b"
tier = "quick"
recipe = "b.toml"
[[tune]]
rows = ["g/a", "g/b"]
grid = { k = [1, 2], "t.lr" = [0.1, 0.2] }
figure = "test_error"
seeds = 2
)";

class TuneTest : public StudyFolder {};

TEST_F(TuneTest, TriesEveryPointForEveryRowOnSeedsOfItsOwn) {
  const Study study = read(kTuned);
  const auto rows = trial_rows(study, study.row);
  ASSERT_EQ(rows.size(), 8U);
  EXPECT_EQ(rows[0].name, "tune/g/a/1");
  EXPECT_EQ(rows[7].name, "tune/g/b/4");
  EXPECT_EQ(rows[1].set, (std::vector<std::string>{"k=0", "k=1", "t.lr=0.2"}));
  EXPECT_EQ(rows[2].set, (std::vector<std::string>{"k=0", "k=2", "t.lr=0.1"}));
  EXPECT_EQ(rows[0].seeds, 2);
  EXPECT_GT(kFirstTuningSeed, kMaxSeeds);
  // A row that is not run is not searched for.
  EXPECT_EQ(trial_rows(study, {study.row[1]}).size(), 4U);
}

/// Results of all trials: two seeds each around these figures, NaN for one that lacks a seed.
std::vector<RowResult> results_of(const Study& study, const std::vector<double>& figures) {
  std::vector<RowResult> results;
  const auto rows = trial_rows(study, study.row);
  for (size_t i = 0; i < rows.size(); ++i) {
    RowRuns runs;
    for (const double sign : {-1.0, 1.0}) {
      SeedRun& run = runs.seeds.emplace_back();
      run.seed = kFirstTuningSeed + static_cast<int64_t>(runs.seeds.size()) - 1;
      if (std::isnan(figures[i]) && sign > 0) {
        run.missing = "killed";
      } else {
        run.values["test_error"] = (std::isnan(figures[i]) ? 0 : figures[i]) + 0.01 * sign;
      }
    }
    results.push_back(summarize_row(rows[i], study.figure, runs));
  }
  return results;
}

TEST_F(TuneTest, EachRowTakesItsBestFinishedPoint) {
  const Study study = read(kTuned);
  // Point 4 of row a would be best, had all its seeds finished.
  const auto trials = choose_trials(
      study, study.row, results_of(study, {0.5, 0.3, 0.4, std::nan(""), 0.2, 0.6, 0.2, 0.7}));
  ASSERT_EQ(trials.size(), 8U);
  EXPECT_TRUE(trials[1].chosen);
  EXPECT_EQ(trials[3].missing, "seed 10002: killed");
  EXPECT_TRUE(trials[4].chosen);  // the first of equal ones
  EXPECT_EQ(std::count_if(trials.begin(), trials.end(), [](const auto& t) { return t.chosen; }), 2);
  EXPECT_EQ(tuned_row(study.row[0], trials).set,
            (std::vector<std::string>{"k=0", "k=1", "t.lr=0.2"}));
  EXPECT_EQ(tuned_row(study.row[1], trials).set, (std::vector<std::string>{"k=1", "t.lr=0.1"}));
}

TEST_F(TuneTest, TheBestMayBeTheHighest) {
  Study study = read(kTuned);
  study.figure[0].better = Better::kHigher;
  const auto trials = choose_trials(study, study.row, results_of(study, {1, 3, 2, 2, 1, 1, 1, 4}));
  EXPECT_TRUE(trials[1].chosen && trials[7].chosen);
}

TEST_F(TuneTest, ASearchWithoutAFinishedPointChoosesNothingAndSaysWhy) {
  const Study study = read(kTuned);
  const double none = std::nan("");
  const auto trials =
      choose_trials(study, study.row, results_of(study, {none, none, none, none, 1, 1, 1, 1}));
  EXPECT_EQ(std::count_if(trials.begin(), trials.end(), [](const auto& t) { return t.chosen; }), 1);
  EXPECT_EQ(why_untuned("g/a", trials), "no point of its search is finished: seed 10002: killed");
  EXPECT_EQ(why_untuned("g/b", trials), "");
  EXPECT_EQ(why_untuned("g/c", trials), "");
}

}  // namespace
}  // namespace moekit::study
