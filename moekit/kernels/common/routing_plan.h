#pragma once

#include <cstdint>
#include <vector>

namespace moekit::kernels {

/// Which token goes to which expert: assignments (token n, choice k) sorted by expert, stable in n.
/// Building one takes O(N * K + E) and no memory once it has been as large before.
struct RoutingPlan {
  std::int64_t num_tokens = 0;           ///< N
  std::int64_t num_experts = 0;          ///< E
  std::int64_t top_k = 0;                ///< K
  std::vector<std::int64_t> offsets;     ///< [E + 1], expert e owns rows offsets[e]..offsets[e+1]-1
  std::vector<std::int32_t> token;       ///< [A]
  std::vector<std::int64_t> assignment;  ///< [A], n * K + k
  std::vector<float> weight;             ///< [A], combine weight
  std::vector<std::int32_t> active;      ///< experts with tokens, in order

  std::int64_t num_rows() const { return offsets.empty() ? 0 : offsets.back(); }
  std::int64_t count(std::int64_t expert) const {
    const auto e = static_cast<std::size_t>(expert);
    return offsets[e + 1] - offsets[e];
  }

  /// @param expert_index    [N, K], 0..E-1
  /// @param combine_weight  [N, K], finite; null for weight 1
  /// @param weights_sum_to_one  demand sum_k combine_weight[n, k] = 1 to 1e-3
  /// @throws ArgumentError naming token and value.
  void build(std::int64_t num_tokens, std::int64_t num_experts, std::int64_t top_k,
             const std::int64_t* expert_index, const float* combine_weight,
             bool weights_sum_to_one = false);

  /// Every token to every one of E experts with weight 1: shared experts.
  void build_shared(std::int64_t num_tokens, std::int64_t num_experts);

  /// Fills `active`, after offsets were set by hand.
  void find_active();
};

}  // namespace moekit::kernels
