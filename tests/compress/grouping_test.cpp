#include "moekit/compress/grouping.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

#include "tests/support/refusal.h"

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
  const auto refused = [](at::IntArrayRef sizes, int64_t count) {
    return refusal([&] { group_experts(torch::ones(sizes), count, Linkage::kAverage); });
  };
  const std::string shape = "group_experts: wanted a similarity [E, E]; got ";
  EXPECT_EQ(refused({2, 3}, 1), shape + "[2, 3]");
  EXPECT_EQ(refused({3, 3, 1}, 1), shape + "[3, 3, 1]");
  EXPECT_EQ(refused({3}, 1), shape + "[3]");
  EXPECT_EQ(refused({3, 3}, 0), "group_experts: 0 groups of 3 experts");
  EXPECT_EQ(refused({3, 3}, 4), "group_experts: 4 groups of 3 experts");
  EXPECT_EQ(refused({1, 1}, 1), "nothing was thrown");
}

/// Naive: all pairs of groups, joined one after the other.
Groups grouped_by_hand(const torch::Tensor& similarity, size_t count, Linkage linkage) {
  Groups groups;
  for (int64_t e = 0; e < similarity.size(0); ++e) groups.push_back({e});
  while (groups.size() > count) {
    double best = -1e9;
    size_t first = 0;
    size_t second = 0;
    for (size_t i = 0; i < groups.size(); ++i) {
      for (size_t j = i + 1; j < groups.size(); ++j) {
        std::vector<double> values;
        for (const int64_t a : groups[i]) {
          for (const int64_t b : groups[j]) values.push_back(similarity[a][b].item<double>());
        }
        double value = 0;
        for (const double v : values) value += v / static_cast<double>(values.size());
        if (linkage == Linkage::kComplete) value = *std::min_element(values.begin(), values.end());
        if (linkage == Linkage::kSingle) value = *std::max_element(values.begin(), values.end());
        if (value <= best + 1e-12) continue;
        best = value;
        first = i;
        second = j;
      }
    }
    auto& joined = groups[first];
    joined.insert(joined.end(), groups[second].begin(), groups[second].end());
    std::sort(joined.begin(), joined.end());
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(second));
  }
  return groups;
}

TEST(Grouping, IsWhatTheDefinitionGives) {
  torch::manual_seed(8);
  for (int trial = 0; trial < 10; ++trial) {
    const auto half = torch::randn({7, 7}, torch::kFloat64);
    const auto similarity = half + half.t();
    for (const auto linkage : {Linkage::kAverage, Linkage::kComplete, Linkage::kSingle}) {
      for (int64_t count = 1; count <= 7; ++count) {
        EXPECT_EQ(group_experts(similarity, count, linkage),
                  grouped_by_hand(similarity, static_cast<size_t>(count), linkage));
      }
    }
  }
  // Of float32, and of a view.
  const auto some = torch::randn({4, 4}).abs();
  const auto both = some + some.t();
  EXPECT_EQ(group_experts(both.t(), 2, Linkage::kAverage),
            grouped_by_hand(both.to(torch::kFloat64), 2, Linkage::kAverage));
}

}  // namespace
}  // namespace moekit::compress
