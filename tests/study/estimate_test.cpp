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

TEST(Estimate, OfAMedianIsABootstrap) {
  const Estimate odd = estimate({1, 9, 2, 3, 100}, Statistic::kMedian);
  EXPECT_EQ(odd.value, 3);
  EXPECT_EQ(odd.interval.low, 1);  // 5.8 % of resamples have the smallest as their median
  EXPECT_EQ(odd.interval.high, 100);
  std::vector<double> many;
  for (int i = 0; i <= 100; ++i) many.push_back(i);
  const Estimate wide = estimate(many, Statistic::kMedian);
  EXPECT_EQ(wide.value, 50);
  // Order statistics 40 and 60 bound the median of 101 values with 95 %.
  EXPECT_NEAR(wide.interval.low, 40, 3);
  EXPECT_NEAR(wide.interval.high, 60, 3);
  const Estimate again = estimate(many, Statistic::kMedian);
  EXPECT_EQ(again.interval.low, wide.interval.low);
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

}  // namespace
}  // namespace moekit::study
