#include "moekit/merge/linear_assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>

#include "moekit/core/error.h"

namespace moekit::merge {
namespace {

double cost_of(const std::vector<float>& cost, const std::vector<int64_t>& columns) {
  double sum = 0;
  for (size_t i = 0; i < columns.size(); ++i) {
    sum += cost[i * columns.size() + static_cast<size_t>(columns[i])];
  }
  return sum;
}

bool is_permutation(std::vector<int64_t> columns) {
  std::sort(columns.begin(), columns.end());
  for (size_t i = 0; i < columns.size(); ++i) {
    if (columns[i] != static_cast<int64_t>(i)) return false;
  }
  return true;
}

std::vector<float> random_costs(size_t n, int kinds, std::mt19937_64& generator) {
  std::vector<float> cost(n * n);
  for (auto& c : cost) {
    // Few different values make many ties.
    c = kinds > 0 ? static_cast<float>(generator() % static_cast<uint64_t>(kinds)) - 2.0F
                  : std::normal_distribution<float>()(generator);
  }
  return cost;
}

TEST(LinearAssignment, IsTheBestOfAllPermutations) {
  std::mt19937_64 generator(1);
  for (size_t n = 1; n <= 7; ++n) {
    for (int round = 0; round < 40; ++round) {
      const auto cost = random_costs(n, round % 3 == 0 ? 0 : round % 3 * 2, generator);
      const auto found = assign(cost.data(), static_cast<int64_t>(n));
      ASSERT_TRUE(is_permutation(found));
      std::vector<int64_t> order(n);
      std::iota(order.begin(), order.end(), 0);
      double least = std::numeric_limits<double>::infinity();
      do {
        least = std::min(least, cost_of(cost, order));
      } while (std::next_permutation(order.begin(), order.end()));
      ASSERT_NEAR(cost_of(cost, found), least, 1e-5) << n << " rows, round " << round;
    }
  }
}

TEST(LinearAssignment, NoTwoOrThreeRowsOfALargeOneCanChangeForTheBetter) {
  std::mt19937_64 generator(2);
  const size_t n = 120;
  const auto cost = random_costs(n, 0, generator);
  const auto found = assign(cost.data(), static_cast<int64_t>(n));
  ASSERT_TRUE(is_permutation(found));
  const auto c = [&](size_t row, size_t as) {
    return double{cost[row * n + static_cast<size_t>(found[as])]};
  };
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      ASSERT_GE(c(i, j) + c(j, i), c(i, i) + c(j, j) - 1e-5);
      for (size_t k = 0; k < n; ++k) {
        if (i == j || j == k || i == k) continue;
        ASSERT_GE(c(i, j) + c(j, k) + c(k, i), c(i, i) + c(j, j) + c(k, k) - 1e-5);
      }
    }
  }
}

TEST(LinearAssignment, FindsAHiddenOrder) {
  const int64_t n = 50;
  std::vector<float> cost(static_cast<size_t>(n * n), 1);
  for (int64_t i = 0; i < n; ++i) cost[static_cast<size_t>(i * n + (i * 7 + 3) % n)] = -5;
  const auto found = assign(cost.data(), n);
  for (int64_t i = 0; i < n; ++i) EXPECT_EQ(found[static_cast<size_t>(i)], (i * 7 + 3) % n);
}

TEST(LinearAssignment, TiesGoByIndexAndWhatIsNoNumberIsRefused) {
  EXPECT_TRUE(assign(nullptr, 0).empty());
  const std::vector<float> same(9, 2);
  EXPECT_EQ(assign(same.data(), 3), (std::vector<int64_t>{0, 1, 2}));
  std::vector<float> bad(4, 0);
  bad[2] = std::nanf("");
  try {
    assign(bad.data(), 2);
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_NE(std::string(error.what()).find("row 1, column 0"), std::string::npos);
  }
}

}  // namespace
}  // namespace moekit::merge
