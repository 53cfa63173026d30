#include "moekit/nn/merge_cost.h"

#include <gtest/gtest.h>

namespace moekit::nn {
namespace {

constexpr double kNoLimit = 1e18;

LinearWork work_of(int64_t gates, int64_t length, int64_t top_k, int64_t num_experts = 16) {
  return {gates, gates * length, num_experts, top_k, 256, 1024, 4};
}

TEST(MergeCost, CountsWhatTheTwoPathsMultiply) {
  // G = 2, T = 3, K = 2, D = 256, O = 1024: 2 * 6 * 2 * D * O routed; merged 2 * 6 * D * O, and
  // 2 * 2 * 2 * D * O for gathered or 2 * 2 * 16 * D * O for the whole stack's weights.
  const auto work = work_of(2, 3, 2);
  const double matrix = 256.0 * 1024;
  EXPECT_EQ(routed_cost(work).operations, 24 * matrix);
  EXPECT_EQ(merged_cost(work, MergeBy::kGather).operations, 12 * matrix + 8 * matrix);
  EXPECT_EQ(merged_cost(work, MergeBy::kProduct).operations, 12 * matrix + 64 * matrix);
  EXPECT_EQ(merged_cost(work, MergeBy::kGather, /*merge=*/false).operations, 12 * matrix);
}

TEST(MergeCost, CountsTheBytesOfWeights) {
  // Rows of one number are next to nothing: K matrices read; or K read, written and read again, the
  // merged one written and read.
  const LinearWork work{1, 1, 16, 3, 1000, 1000, 4};
  EXPECT_NEAR(routed_cost(work).bytes, 3 * 4e6, 1e5);
  EXPECT_NEAR(merged_cost(work, MergeBy::kGather).bytes, (9 + 2) * 4e6, 1e5);
  EXPECT_NEAR(merged_cost(work, MergeBy::kProduct).bytes, (16 + 2) * 4e6, 1e5);
  EXPECT_NEAR(merged_cost(work, MergeBy::kProduct, false).bytes, 4e6, 1e5);
}

TEST(MergeCost, GathersOnlyBelowHalfOfTheExperts) {
  EXPECT_EQ(merge_by(work_of(1, 8, 1, 64)), MergeBy::kGather);
  EXPECT_EQ(merge_by(work_of(1, 8, 32, 64)), MergeBy::kProduct);
  EXPECT_EQ(merge_by(work_of(1, 8, 1, 2)), MergeBy::kProduct);  // 2 K = E
  // Many gates: the product reads the stack once, where each gate copies its own slices.
  EXPECT_EQ(merge_by(work_of(8, 8, 7)), MergeBy::kProduct);
}

TEST(MergeCost, MergesManyTokensAGateAndRoutesFew) {
  EXPECT_EQ(choose_path(work_of(8, 128, 4), kNoLimit), LinearPath::kMerged);
  EXPECT_EQ(choose_path(work_of(8, 128, 8), kNoLimit), LinearPath::kMerged);
  EXPECT_EQ(choose_path(work_of(8, 8, 1), kNoLimit), LinearPath::kRouted);
  EXPECT_EQ(choose_path(work_of(8, 1, 4), kNoLimit), LinearPath::kRouted);
  // One expert: merging saves no product.
  EXPECT_EQ(choose_path(work_of(8, 128, 1), kNoLimit), LinearPath::kRouted);
}

TEST(MergeCost, ChoosesAsWorkedOutByHand) {
  // B = 8, L = 32, K = 4, E = 16 in units of a matrix D * O: routed 2 * 1024 / 10 + 16 * 4 + rows
  // (44); merged by the product (2 * 8 * 16) / 10 + (16 + 8) * 4 + (2 * 256) / 10 + 8 * 4 + 5.
  const double matrix = 256.0 * 1024;
  EXPECT_NEAR(routed_cost(work_of(8, 32, 4)).time() / matrix, 312.8, 0.1);
  EXPECT_NEAR(merged_cost(work_of(8, 32, 4), MergeBy::kProduct).time() / matrix, 209.8, 0.1);
  EXPECT_EQ(choose_path(work_of(8, 32, 4), kNoLimit), LinearPath::kMerged);
  EXPECT_EQ(choose_path(work_of(8, 8, 8), kNoLimit), LinearPath::kMerged);
  EXPECT_EQ(choose_path(work_of(8, 8, 4), kNoLimit), LinearPath::kRouted);
  EXPECT_EQ(choose_path(work_of(8, 32, 2), kNoLimit), LinearPath::kRouted);
}

TEST(MergeCost, ChangesSidesOnceAsSequencesGrow) {
  for (const int64_t k : {2, 4, 8, 16}) {
    bool merged = false;
    for (int64_t length = 1; length <= 4096; length *= 2) {
      const bool now = choose_path(work_of(8, length, k), kNoLimit) == LinearPath::kMerged;
      EXPECT_TRUE(now || !merged) << k << " experts, " << length << " tokens";
      merged = now;
    }
    EXPECT_TRUE(merged) << k;
  }
}

TEST(MergeCost, RoutesWhatWouldTakeTooMuchMemory) {
  // Eight merged matrices of 256 x 1024 in float32: 8 MiB.
  const auto work = work_of(8, 128, 8);
  const double bytes = 8.0 * 1024 * 1024;
  EXPECT_EQ(merged_bytes(work, MergeBy::kProduct), bytes);
  EXPECT_EQ(merged_bytes(work, MergeBy::kGather), 9 * bytes);
  EXPECT_EQ(choose_path(work, bytes), LinearPath::kMerged);
  EXPECT_EQ(choose_path(work, bytes - 1), LinearPath::kRouted);
}

TEST(MergeCost, IsTheFormulaForSizesThatAllDiffer) {
  // G = 3, N = 35, E = 11, K = 2, D = 7, O = 13.
  for (const int64_t bytes : {2, 4, 8}) {
    const LinearWork work{3, 35, 11, 2, 7, 13, bytes};
    const auto b = static_cast<double>(bytes);
    const double wide = bytes == 8 ? 8 : 4;  // merged in float32 at least
    EXPECT_EQ(routed_cost(work).operations, 2 * 70 * 91);
    EXPECT_EQ(routed_cost(work).bytes, 6 * 91 * b + 70 * (3 * 7 + 2 * 13) * b);
    const double run = (3 * 91 + 35 * 20) * b;
    const auto without = merged_cost(work, MergeBy::kProduct, false);
    EXPECT_EQ(without.operations, 2 * 35 * 91);
    EXPECT_EQ(without.bytes, run);
    EXPECT_EQ(without.time(), 2 * 35 * 91 / 10.0 + run);
    const auto gathered = merged_cost(work, MergeBy::kGather);
    EXPECT_EQ(gathered.operations, 2 * 35 * 91 + 2 * 6 * 91);
    EXPECT_EQ(gathered.bytes, run + (3 * 6 + 3) * 91 * wide);
    const auto product = merged_cost(work, MergeBy::kProduct);
    EXPECT_EQ(product.operations, 2 * 35 * 91 + 2 * 3 * 11 * 91);
    EXPECT_EQ(product.bytes, run + (11 + 3) * 91 * wide);
    EXPECT_EQ(merged_bytes(work, MergeBy::kProduct), 3 * 91 * wide);
    EXPECT_EQ(merged_bytes(work, MergeBy::kGather), 3 * 3 * 91 * wide);
  }
  // No more experts are read than there are.
  EXPECT_EQ(routed_cost({9, 35, 11, 2, 7, 13, 4}).bytes, 11 * 91 * 4 + 70 * 47 * 4);
}

TEST(MergeCost, GathersWhereBothCostTheSame) {
  // K = 21 of E = 61, weights of 10 numbers: 42 + 64 * 40 = 122 + 62 * 40 = 2602.
  EXPECT_EQ(merge_by({1, 1, 61, 21, 5, 2, 4}), MergeBy::kGather);
  EXPECT_EQ(merge_by({1, 1, 61, 22, 5, 2, 4}), MergeBy::kProduct);
  EXPECT_EQ(merge_by({1, 1, 60, 30, 5, 2, 4}), MergeBy::kProduct);
}

}  // namespace
}  // namespace moekit::nn
