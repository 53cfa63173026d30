#include "moekit/compress/grouping.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"

namespace moekit::compress {
namespace {

using Groups = std::vector<std::vector<int64_t>>;

/// Symmetric, of the pairs (0,1), (0,2), ... in order.
torch::Tensor pairs(int64_t experts, const std::vector<double>& values) {
  auto out = torch::ones({experts, experts}, torch::kFloat64);
  size_t at = 0;
  for (int64_t i = 0; i < experts; ++i) {
    for (int64_t j = i + 1; j < experts; ++j) out[i][j] = out[j][i] = values.at(at++);
  }
  return out;
}

TEST(Grouping, LinkagesDifferWhereTheyShould) {
  // 0 and 1 are joined first. 2 is near 0 and far from 1; 3 is fairly near both of them.
  const auto similarity = pairs(4, {0.9, 0.8, 0.5, -0.8, 0.5, 0.1});
  EXPECT_EQ(group_experts(similarity, 2, Linkage::kSingle), (Groups{{0, 1, 2}, {3}}));
  EXPECT_EQ(group_experts(similarity, 2, Linkage::kAverage), (Groups{{0, 1, 3}, {2}}));
  EXPECT_EQ(group_experts(similarity, 2, Linkage::kComplete), (Groups{{0, 1, 3}, {2}}));
  // 0 and 2 are joined first; 1 is near 0 alone, and 3 near 1: the mean over (0,1), (2,1) is 0.25,
  // the least of them -0.4, and 3 is at 0.2.
  const auto chain = pairs(4, {0.9, 0.95, -1, -0.4, 0.2, -1});
  EXPECT_EQ(group_experts(chain, 2, Linkage::kAverage), (Groups{{0, 1, 2}, {3}}));
  EXPECT_EQ(group_experts(chain, 2, Linkage::kComplete), (Groups{{0, 2}, {1, 3}}));
}

TEST(Grouping, TiesGoToTheLowestAndPairsWithoutAValueComeLast) {
  EXPECT_EQ(group_experts(pairs(3, {0.5, 0.5, 0.5}), 2, Linkage::kAverage), (Groups{{0, 1}, {2}}));
  const double nan = std::nan("");
  EXPECT_EQ(group_experts(pairs(3, {nan, -0.9, nan}), 2, Linkage::kAverage), (Groups{{0, 2}, {1}}));
  EXPECT_EQ(group_experts(pairs(3, {nan, nan, nan}), 1, Linkage::kComplete), (Groups{{0, 1, 2}}));
  EXPECT_EQ(group_experts(pairs(3, {0.1, 0.2, 0.3}), 3, Linkage::kSingle), (Groups{{0}, {1}, {2}}));
}

TEST(Grouping, RefusesWhatIsNoGrouping) {
  EXPECT_THROW(group_experts(torch::ones({2, 3}), 1, Linkage::kAverage), ArgumentError);
  EXPECT_THROW(group_experts(torch::ones({3, 3, 1}), 1, Linkage::kAverage), ArgumentError);
  EXPECT_THROW(group_experts(torch::ones({3}), 1, Linkage::kAverage), ArgumentError);
  EXPECT_THROW(group_experts(torch::ones({3, 3}), 0, Linkage::kAverage), ArgumentError);
  EXPECT_THROW(group_experts(torch::ones({3, 3}), 4, Linkage::kAverage), ArgumentError);
}

}  // namespace
}  // namespace moekit::compress
