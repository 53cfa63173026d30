#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "moekit/core/enum_names.h"
#include "moekit/core/random.h"
#include "moekit/core/statistics.h"

namespace moekit {
namespace {

TEST(DeriveSeed, DiffersByStreamSeedAndIndex) {
  std::set<uint64_t> seeds;
  for (const char* stream : {"a", "b"}) {
    for (uint64_t seed : {0, 1}) {
      for (uint64_t index : {0, 1}) seeds.insert(derive_seed(seed, stream, index));
    }
  }
  EXPECT_EQ(seeds.size(), 8U);
  EXPECT_EQ(derive_seed(1, "a", 2), derive_seed(1, "a", 2));
}

TEST(RandomPermutation, HoldsEveryNumberOnceAndIsTheSameForOneSeed) {
  auto order = random_permutation(1000, 7);
  EXPECT_EQ(order, random_permutation(1000, 7));
  EXPECT_NE(order, random_permutation(1000, 8));
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(order[static_cast<size_t>(i)], i);
  EXPECT_TRUE(random_permutation(0, 1).empty());
}

TEST(UniformBelow, RefusesAnEmptyRange) {
  std::mt19937_64 generator(1);
  double least = 1;
  double most = 0;
  for (int i = 0; i < 2000; ++i) {
    const double drawn = uniform_unit(generator);
    least = std::min(least, drawn);
    most = std::max(most, drawn);
  }
  EXPECT_GE(least, 0);
  EXPECT_LT(least, 0.01);
  EXPECT_LT(most, 1);
  EXPECT_GT(most, 0.99);
  EXPECT_THROW(uniform_below(generator, 0), ArgumentError);
  for (int i = 0; i < 100; ++i) EXPECT_LT(uniform_below(generator, 3), 3U);
}

TEST(Summarize, MatchesHandWorkedFigures) {
  const auto s = summarize({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(s.mean, 2.5);
  EXPECT_DOUBLE_EQ(s.median, 2.5);
  EXPECT_DOUBLE_EQ(s.std_dev, std::sqrt(5.0 / 3.0));
  EXPECT_DOUBLE_EQ(s.min, 1);
  EXPECT_DOUBLE_EQ(s.max, 4);
  EXPECT_DOUBLE_EQ(s.standard_error(), std::sqrt(5.0 / 3.0) / 2);
  EXPECT_DOUBLE_EQ(summarize({5, 1, 9}).median, 5);
  EXPECT_EQ(summarize({7}).std_dev, 0);
  EXPECT_TRUE(std::isnan(summarize({}).mean));
}

}  // namespace
}  // namespace moekit
