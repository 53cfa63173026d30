#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moekit::kernels {

/// Assignments of tokens to experts as a flat list, in any order; a token may have none, one or
/// many, and each may have its own number of them.
struct AssignmentList {
  std::int64_t num_tokens = 0;           ///< N
  std::int64_t num_experts = 0;          ///< E
  std::int64_t size = 0;                 ///< A
  const std::int64_t* token = nullptr;   ///< [A], 0..N-1; null: A / N assignments a token, in order
  const std::int64_t* expert = nullptr;  ///< [A], 0..E-1
  const float* weight = nullptr;         ///< [A]; null for weight 1
};

/// Which token goes to which expert: assignments sorted by expert, in the list's order for each.
/// Building one takes O(A + E) and no memory once it has been as large before.
struct RoutingPlan {
  std::int64_t num_tokens = 0;           ///< N
  std::int64_t num_experts = 0;          ///< E
  std::int64_t num_assignments = 0;      ///< A of the list, those beyond a capacity included
  std::vector<std::int64_t> offsets;     ///< [E + 1], expert e owns rows offsets[e]..offsets[e+1]-1
  std::vector<std::int32_t> token;       ///< [R], R <= A
  std::vector<std::int64_t> assignment;  ///< [R], index in the list
  std::vector<float> weight;             ///< [R], combine weight
  std::vector<std::int32_t> active;      ///< experts with tokens, in order
  std::vector<std::int64_t> dropped;     ///< [E], assignments beyond the capacity

  std::int64_t num_rows() const { return offsets.empty() ? 0 : offsets.back(); }
  std::int64_t count(std::int64_t expert) const {
    const auto e = static_cast<std::size_t>(expert);
    return offsets[e + 1] - offsets[e];
  }
  std::int64_t num_dropped() const { return num_assignments - num_rows(); }

  /// @param capacity  most assignments an expert takes; 0: no limit
  /// @param order     [A], the order in which experts take assignments until they are full, a
  ///                  permutation of 0..A-1; null: the list's. Rows are in the list's order anyway.
  /// @throws ArgumentError naming the assignment and its value, when a token or an expert does not
  ///         exist or `order` is no permutation.
  void build(const AssignmentList& list, std::int64_t capacity = 0,
             const std::int64_t* order = nullptr);
  /// @param capacity  of each expert [E], or one for all; none: no limit
  void build(const AssignmentList& list, std::span<const std::int64_t> capacity,
             const std::int64_t* order);

  /// K assignments a token.
  /// @param expert_index    [N, K], 0..E-1
  /// @param combine_weight  [N, K], finite; null for weight 1
  /// @param weights_sum_to_one  demand sum_k combine_weight[n, k] = 1 to 1e-3
  /// @throws ArgumentError naming token and value.
  void build(std::int64_t num_tokens, std::int64_t num_experts, std::int64_t top_k,
             const std::int64_t* expert_index, const float* combine_weight,
             bool weights_sum_to_one = false);

  /// Every token to every one of E experts with weight 1: shared experts.
  void build_shared(std::int64_t num_tokens, std::int64_t num_experts);

 private:
  void count_rows(const AssignmentList& list, std::span<const std::int64_t> capacity,
                  const std::int64_t* order);
  void find_active();

  std::vector<char> marks_;  ///< [A], of a build with an order
};

}  // namespace moekit::kernels
