#include "moekit/kernels/common/top_k.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "moekit/core/error.h"

namespace moekit::kernels {
namespace {

using Index = std::vector<std::int64_t>;

template <typename Score>
std::vector<std::int64_t> choose(const std::vector<Score>& scores, std::int64_t experts,
                                 std::int64_t k) {
  const auto tokens = static_cast<std::int64_t>(scores.size()) / experts;
  std::vector<std::int64_t> index(static_cast<std::size_t>(tokens * k), -1);
  top_k(scores.data(), tokens, experts, k, index.data());
  return index;
}

TEST(TopK, TakesTheLargestAndOfEqualOnesTheLowestIndex) {
  const std::vector<float> scores{1, 3, 2, 3, 0,  //
                                  0, 0, 0, 0, 0};
  EXPECT_EQ(choose(scores, 5, 1), (Index{1, 0}));
  EXPECT_EQ(choose(scores, 5, 3), (Index{1, 3, 2, 0, 1, 2}));
  EXPECT_EQ(choose(scores, 5, 5), (Index{1, 3, 2, 0, 4, 0, 1, 2, 3, 4}));
  EXPECT_EQ(choose(scores, 5, 0), Index{});
  // 64 equal scores: more than what a sort leaves in order by chance.
  EXPECT_EQ(choose(std::vector<double>(64, -1.0), 64, 4), (Index{0, 1, 2, 3}));
  EXPECT_EQ(choose(std::vector<float>{1, NAN, 2, NAN}, 4, 3), (Index{1, 3, 2}));
  EXPECT_EQ(choose(std::vector<float>{1, NAN, 2, NAN}, 4, 1), Index{1});
  EXPECT_THROW(choose(scores, 5, 6), ArgumentError);
}

TEST(TopK, IsAStableSortsBeginning) {
  // Few and many are found in other ways; scores of few values tie often.
  std::mt19937 random(5);
  constexpr std::int64_t kExperts = 40;
  for (int n = 0; n < 50; ++n) {
    std::vector<float> scores(kExperts);
    for (auto& score : scores) {
      const auto drawn = random() % 12;
      score = drawn == 0 ? NAN : static_cast<float>(drawn);
    }
    Index order(kExperts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
      const auto x = scores[static_cast<std::size_t>(a)];
      const auto y = scores[static_cast<std::size_t>(b)];
      return std::isnan(y) ? false : std::isnan(x) || x > y;
    });
    for (const std::int64_t k : {1, 2, 3, 15, 16, 17, 39, 40}) {
      EXPECT_EQ(choose(scores, kExperts, k), Index(order.begin(), order.begin() + k)) << k;
    }
  }
}

}  // namespace
}  // namespace moekit::kernels
