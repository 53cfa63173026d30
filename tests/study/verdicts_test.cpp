#include "moekit/study/verdicts.h"

#include <limits>

#include "tests/study/study_fixture.h"

namespace moekit::study {
namespace {

class VerdictsTest : public StudyFolder {
 protected:
  /// Judges "a < b" on these values, one a seed; NaN: a null in the summary.
  ClaimResult judged(const std::vector<double>& a, const std::vector<double>& b,
                     bool allow_missing = false) {
    const Study study = read(kTwoRows);
    return judge(study.claim[0], study.figure, rows_of(study, a, b), allow_missing);
  }
  std::vector<RowResult> rows_of(const Study& study, const std::vector<double>& a,
                                 const std::vector<double>& b) {
    for (size_t i = 0; i < a.size(); ++i) summary("g/a", static_cast<int64_t>(i) + 1, a[i]);
    for (size_t i = 0; i < b.size(); ++i) summary("g/b", static_cast<int64_t>(i) + 1, b[i]);
    return {gather(study, "g/a", static_cast<int64_t>(a.size())),
            gather(study, "g/b", static_cast<int64_t>(b.size()))};
  }
};

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST_F(VerdictsTest, HoldWhenTheIntervalLiesOnTheClaimedSide) {
  const auto held = judged({1, 2, 3, 4, 5}, {2, 3, 4.1, 5, 6});
  EXPECT_EQ(held.verdict, Verdict::kHeld);
  EXPECT_EQ(held.detail,
            "g/a.test_error < g/b.test_error: effect -1.0200 [-1.0755, -0.9645], 5 seeds");
  EXPECT_EQ(judged({2, 3, 4.1, 5, 6}, {1, 2, 3, 4, 5}).verdict, Verdict::kContradicted);
}

TEST_F(VerdictsTest, AreUndecidedWhenItCoversTheBoundAndSayHowManySeedsWouldDecide) {
  const auto open = judged({1, 2, 3, 4, 5}, {2, 3, 2, 5, 6});
  EXPECT_EQ(open.verdict, Verdict::kUndecided);
  // Differences -1, -1, 1, -1, -1: mean -0.6, t half-width 1.1106, 5 (1.1106 / 0.6)^2 = 17.1.
  EXPECT_NE(open.detail.find("5 seeds; about 18 would decide"), std::string::npos) << open.detail;
}

TEST_F(VerdictsTest, TakeFiveSeedsHoweverClearTheyAre) {
  for (size_t n = 1; n < kLeastSeeds; ++n) {
    const std::vector<double> low(n, 1.0);
    const std::vector<double> high(n, 100.0);
    const auto result = judged(low, high);
    EXPECT_EQ(result.verdict, Verdict::kUndecided) << n;
    EXPECT_NE(result.detail.find("; a verdict takes 5"), std::string::npos) << result.detail;
  }
  EXPECT_EQ(judged({1, 1, 1, 1, 1}, {2, 2, 2, 2, 2}).verdict, Verdict::kHeld);
}

TEST_F(VerdictsTest, DoNotAverageMissingSeedsAway) {
  const std::vector<double> a = {1, 2, kNaN, 4, 5, 6};
  const std::vector<double> b = {2, 3, 4, 5, 6, 7.1};
  const auto refused = judged(a, b);
  EXPECT_EQ(refused.verdict, Verdict::kNotTested);
  EXPECT_NE(refused.detail.find("1 of 6 seeds are missing"), std::string::npos) << refused.detail;
  const auto allowed = judged(a, b, true);
  EXPECT_EQ(allowed.verdict, Verdict::kHeld);
  EXPECT_EQ(allowed.checks[0].effect.count, 5U);  // paired: seed 3 counts for neither row
  EXPECT_EQ(judged({kNaN, kNaN}, b).verdict, Verdict::kNotTested);
}

TEST_F(VerdictsTest, PairSeedsThatBothRowsHave) {
  // Each lacks another seed, and the second has fewer: 1, 3, 5, 6 and 7 are left.
  const auto paired = judged({1, kNaN, 3, 4, 5, 6, 7, 8}, {2, 3, 4, kNaN, 6, 7, 8.1}, true);
  EXPECT_EQ(paired.checks[0].effect.count, 5U);
  EXPECT_NEAR(paired.checks[0].effect.value, -1.02, 1e-12);
  EXPECT_EQ(paired.checks[0].detail.rfind("effect -1.0200 [-1.0755, -0.9645], 5 seeds", 0), 0U)
      << paired.checks[0].detail;
  const auto apart = judged({1, kNaN}, {kNaN, 1}, true);
  EXPECT_EQ(apart.verdict, Verdict::kNotTested);
  EXPECT_EQ(apart.checks[0].detail, "the rows have no seed in common");
}

TEST_F(VerdictsTest, SayWhyARowHasNoValue) {
  const Study study = read(kTwoRows);
  auto rows = rows_of(study, {1, 2}, {kNaN, kNaN});
  const auto detail = [&](bool allow_missing = false) {
    return judge(study.claim[0], study.figure, rows, allow_missing).checks[0].detail;
  };
  EXPECT_EQ(detail(), "g/b.test_error: no run has such a value");
  rows.pop_back();
  EXPECT_EQ(detail(), "g/b: not among the rows that were run");
  rows = rows_of(study, {1, 2, 3}, {1, kNaN, 3});
  EXPECT_EQ(detail(),
            "g/b.test_error: 1 of 3 seeds are missing; --allow-missing judges the others");
}

TEST_F(VerdictsTest, TakeAllChecksOfAClaim) {
  Study study = read(kTwoRows);
  Claim claim = study.claim[0];
  const auto rows = rows_of(study, {1, 2, 3, 4, 5}, {2, 3, 4.1, 5, 6});
  Check reverse = claim.check[0];
  reverse.op = ">";
  claim.check = {reverse, claim.check[0]};
  EXPECT_EQ(judge(claim, study.figure, rows, false).verdict, Verdict::kContradicted);
  std::swap(claim.check[0], claim.check[1]);
  const auto result = judge(claim, study.figure, rows, false);
  EXPECT_EQ(result.verdict, Verdict::kContradicted);
  EXPECT_EQ(result.checks[0].verdict, Verdict::kHeld);
  EXPECT_EQ(result.checks[1].verdict, Verdict::kContradicted);
}

TEST_F(VerdictsTest, BoundsTakeFactorOffsetAndEquality) {
  Study study = read(kTwoRows);
  Claim claim = study.claim[0];
  const auto rows = rows_of(study, {4, 4, 4, 4, 4}, {8, 8, 8, 8, 8});
  const auto verdict = [&](const char* op, double factor, double offset, bool alone = false) {
    claim.check[0] = {"g/a.test_error", op, alone ? "" : "g/b.test_error", factor, offset};
    return judge(claim, study.figure, rows, false).verdict;
  };
  EXPECT_EQ(verdict("<", 0.6, 0), Verdict::kHeld);
  EXPECT_EQ(verdict("<", 0.4, 0), Verdict::kContradicted);
  EXPECT_EQ(verdict("<", 0.4, 1), Verdict::kHeld);
  EXPECT_EQ(verdict("<", 0.5, 0), Verdict::kUndecided);  // exactly the bound: on neither side
  EXPECT_EQ(verdict(">", 0.5, 0), Verdict::kUndecided);
  EXPECT_EQ(verdict("<=", 0.5, 0), Verdict::kHeld);
  EXPECT_EQ(verdict(">=", 0.5, 0), Verdict::kHeld);
  EXPECT_EQ(verdict(">", 1, 3, true), Verdict::kHeld);
  EXPECT_EQ(verdict(">", 1, 5, true), Verdict::kContradicted);
}

TEST_F(VerdictsTest, LookAtTheFiguresStatistic) {
  Study study = read(kTwoRows);
  // Means say a > b, medians a < b.
  const auto rows = rows_of(study, {1, 1, 1, 1, 1, 1, 1, 1, 1, 99}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2});
  EXPECT_EQ(judge(study.claim[0], study.figure, rows, false).verdict, Verdict::kUndecided);
  study.figure[0].statistic = Statistic::kMedian;
  EXPECT_EQ(judge(study.claim[0], study.figure, rows, false).verdict, Verdict::kHeld);
}

TEST_F(VerdictsTest, MarkRowsThatWereSearchedLonger) {
  const Study study = read(kTwoRows);
  auto rows = rows_of(study, {1, 2, 3, 4, 5}, {2, 3, 4.1, 5, 6});
  rows[0].trials = 6;
  rows[0].trial_runs = 6;
  EXPECT_NE(judge(study.claim[0], study.figure, rows, false)
                .detail.find("UNEQUAL TUNING: 6 trials of 6 runs against 0 of 0"),
            std::string::npos);
  rows[1].trials = 6;
  rows[1].trial_runs = 18;
  EXPECT_NE(
      judge(study.claim[0], study.figure, rows, false).detail.find("of 6 runs against 6 of 18"),
      std::string::npos);
}

TEST_F(VerdictsTest, AreCountedWithWhatChanceWouldGive) {
  std::vector<ClaimResult> claims(5);
  const Verdict verdicts[] = {Verdict::kHeld, Verdict::kHeld, Verdict::kContradicted,
                              Verdict::kUndecided, Verdict::kNotTested};
  for (size_t i = 0; i < 5; ++i) {
    claims[i].verdict = verdicts[i];
    claims[i].checks.resize(5);
  }
  const Tally counted = tally(claims);
  EXPECT_EQ(counted.tested(), 4U);
  EXPECT_EQ(counted.checks, 20U);
  const auto text = describe(counted, 1);
  EXPECT_NE(text.find("4 claims tested in 20 comparisons: 2 held, 1 contradicted, 1 undecided; 1 "
                      "not tested."),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("0.5 of the comparisons"), std::string::npos) << text;
  EXPECT_NE(describe(counted, 3).find("up to 1.5"), std::string::npos);
}

}  // namespace
}  // namespace moekit::study
