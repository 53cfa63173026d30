#include "moekit/study/estimate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "moekit/core/error.h"

namespace moekit::study {
namespace {

TEST(Estimate, OfAMeanIsStudentsInterval) {
  const Estimate five = estimate({1, 2, 3, 4, 5}, Statistic::kMean);
  EXPECT_EQ(five.count, 5U);
  EXPECT_DOUBLE_EQ(five.value, 3);
  // t(0.975, 4) = 2.7764451 times sqrt(2.5 / 5), from tables.
  EXPECT_NEAR(five.interval.high, 3 + 2.7764451 * std::sqrt(0.5), 1e-6);
  EXPECT_NEAR(five.interval.low, 3 - 2.7764451 * std::sqrt(0.5), 1e-6);
  const Estimate two = estimate({1, 3}, Statistic::kMean);
  EXPECT_NEAR(two.interval.high, 2 + 12.7062047, 1e-5);
  const Estimate one = estimate({7}, Statistic::kMean);
  EXPECT_EQ(one.value, 7);
  EXPECT_TRUE(std::isinf(one.interval.low) && std::isinf(one.interval.high));
  EXPECT_TRUE(std::isnan(estimate({}, Statistic::kMean).value));
}

TEST(Estimate, OfAMeanCoversNineteenTimesInTwenty) {
  std::mt19937_64 generator(3);
  std::normal_distribution<double> normal(2, 1);
  int covered = 0;
  constexpr int kTrials = 4000;
  for (int i = 0; i < kTrials; ++i) {
    std::vector<double> values(5);
    for (double& value : values) value = normal(generator);
    const Interval at = estimate(values, Statistic::kMean).interval;
    covered += at.low <= 2 && 2 <= at.high ? 1 : 0;
  }
  EXPECT_NEAR(covered / double{kTrials}, 0.95, 0.015);  // four standard errors
}

TEST(Estimate, OfAMedianLiesBetweenOrderStatistics) {
  // Five values hold their median between the smallest and the largest in 94 of 100 samples.
  const Estimate five = estimate({1, 9, 2, 3, 100}, Statistic::kMedian);
  EXPECT_EQ(five.value, 3);
  EXPECT_FALSE(std::isfinite(five.interval.low) || std::isfinite(five.interval.high));
  const Estimate six = estimate({1, 9, 2, 3, 100, 4}, Statistic::kMedian);
  EXPECT_EQ(six.interval.low, 1);
  EXPECT_EQ(six.interval.high, 100);
  // Tables of the sign test: 2nd and 8th of 9, 6th and 15th of 20.
  const auto places = [](int n) {
    std::vector<double> values;
    for (int i = n; i >= 1; --i) values.push_back(i);
    const Interval at = estimate(values, Statistic::kMedian).interval;
    return std::pair(at.low, at.high);
  };
  EXPECT_EQ(places(9), std::pair(2.0, 8.0));
  EXPECT_EQ(places(20), std::pair(6.0, 15.0));
  EXPECT_EQ(places(101), std::pair(41.0, 61.0));
}

TEST(Estimate, AMedianIsHeldAtLeastAsOftenAsPromised) {
  std::mt19937_64 generator(8);
  std::exponential_distribution<double> skew(1);
  for (const size_t n : {6U, 7U, 8U, 13U}) {
    int missed = 0;
    constexpr int kTrials = 4000;
    for (int i = 0; i < kTrials; ++i) {
      std::vector<double> values(n);
      for (double& value : values) value = skew(generator);
      const Interval at = estimate(values, Statistic::kMedian).interval;
      missed += at.low <= std::log(2) && std::log(2) <= at.high ? 0 : 1;
    }
    EXPECT_LT(missed / double{kTrials}, 0.05 + 0.014) << n;  // four standard errors
  }
}

TEST(Estimate, OfAProportionIsClopperPearson) {
  const Estimate all = estimate({1, 1, 1, 1, 1}, Statistic::kProportion);
  EXPECT_EQ(all.value, 1);
  EXPECT_NEAR(all.interval.low, std::pow(0.025, 0.2), 1e-9);
  EXPECT_EQ(all.interval.high, 1);
  const Estimate some = estimate({1, 1, 1, 0, 0, 0, 0, 0, 0, 0}, Statistic::kProportion);
  EXPECT_NEAR(some.interval.low, 0.06673951, 1e-7);
  EXPECT_NEAR(some.interval.high, 0.65245285, 1e-7);
  EXPECT_THROW(estimate({0.5}, Statistic::kProportion), ArgumentError);
  EXPECT_THROW(estimate({std::nan("")}, Statistic::kMean), ArgumentError);
}

TEST(EstimateEffect, PairsSeeds) {
  // Rows that move together: their difference is sure though each is not.
  const std::vector<double> left = {10, 20, 30, 40, 50};
  const std::vector<double> right = {11, 21, 31.2, 41, 51};
  const Estimate effect = estimate_effect(left, right, 1, 0, Statistic::kMean);
  EXPECT_NEAR(effect.value, -1.04, 1e-12);
  EXPECT_LT(effect.interval.high, -0.9);
  const Estimate scaled = estimate_effect(left, right, 0.5, 3, Statistic::kMean);
  EXPECT_NEAR(scaled.value, 30 - 0.5 * 31.04 - 3, 1e-12);
  EXPECT_NEAR(estimate_effect(left, {}, 1, 12, Statistic::kMean).value, 18, 1e-12);
  EXPECT_EQ(estimate_effect(left, right, 1, 0, Statistic::kMedian).value, -1);
  EXPECT_THROW(estimate_effect(left, {1}, 1, 0, Statistic::kMean), ArgumentError);
}

TEST(EstimateEffect, OfProportionsJoinsBothIntervals) {
  const std::vector<double> all(5, 1.0);
  const std::vector<double> none(5, 0.0);
  const Estimate effect = estimate_effect(all, none, 1, 0, Statistic::kProportion);
  const double reach = 1 - std::pow(0.025, 0.2);  // of either row's own interval
  EXPECT_EQ(effect.value, 1);
  EXPECT_NEAR(effect.interval.low, 1 - std::hypot(reach, reach), 1e-9);
  EXPECT_NEAR(effect.interval.high, 1, 1e-9);
  EXPECT_NEAR(estimate_effect(all, {}, 1, 0.9, Statistic::kProportion).interval.low,
              std::pow(0.025, 0.2) - 0.9, 1e-9);
}

TEST(SeedsToDecide, GrowWithTheSquareOfWhatIsMissing) {
  EXPECT_EQ(seeds_to_decide({5, 1.0, {-1.0, 3.0}}), 20U);
  EXPECT_EQ(seeds_to_decide({5, -1.0, {-3.0, 1.0}}), 20U);
  EXPECT_EQ(seeds_to_decide({5, 2.0, {1.0, 3.0}}), 5U);  // decided
  EXPECT_EQ(seeds_to_decide({5, 0.0, {-1.0, 1.0}}), 0U);
  EXPECT_EQ(seeds_to_decide({5, 1e-9, {-1.0, 1.0}}), 0U);
  EXPECT_EQ(seeds_to_decide(estimate({3}, Statistic::kMean)), 0U);
}

// Newcombe 1998, Improved confidence intervals for the difference between binomial proportions
// based on paired data, method 10, with Clopper-Pearson's intervals in place of Wilson's.
TEST(EstimateEffect, PairsProportionsSeedBySeed) {
  std::vector<double> left(20, 0), right(20, 0);
  for (size_t i = 0; i < 16; ++i) left[i] = 1;
  for (size_t i = 0; i < 10; ++i) right[i] = 1;  // each of these is a success of the left row, too
  const Estimate effect = estimate_effect(left, right, 1, 0, Statistic::kProportion);
  EXPECT_NEAR(effect.value, 0.3, 1e-12);
  const Interval a = estimate(left, Statistic::kProportion).interval;
  const Interval b = estimate(right, Statistic::kProportion).interval;
  // 10 both, 6 left alone, 4 neither: phi = (10 * 4 - 10) / sqrt(16 * 4 * 10 * 10).
  const double phi = 30 / std::sqrt(6400.0);
  const double low = std::sqrt(std::pow(0.8 - a.low, 2) - 2 * phi * (0.8 - a.low) * (b.high - 0.5) +
                               std::pow(b.high - 0.5, 2));
  EXPECT_NEAR(effect.interval.low, 0.3 - low, 1e-12);
  EXPECT_GT(effect.interval.low, 0);  // as the exact test of the six seeds says: p = 0.031
  // Successes that exclude each other make the difference less sure than independent ones.
  std::vector<double> other(20, 0);
  for (size_t i = 10; i < 20; ++i) other[i] = 1;
  EXPECT_LT(estimate_effect(left, other, 1, 0, Statistic::kProportion).interval.low, 0);
}

}  // namespace
}  // namespace moekit::study
