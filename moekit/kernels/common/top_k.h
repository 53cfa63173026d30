#pragma once

#include <cstdint>

namespace moekit::kernels {

/// The K largest of each row, largest first, and of equal ones the lowest index first: the rule of
/// ties of everything that chooses experts. NaN counts as the largest, as in libtorch.
/// @param scores [N, E] @param index [N, K], written
/// @throws ArgumentError unless 0 <= top_k <= num_experts.
void top_k(const float* scores, std::int64_t num_tokens, std::int64_t num_experts,
           std::int64_t top_k, std::int64_t* index);
void top_k(const double* scores, std::int64_t num_tokens, std::int64_t num_experts,
           std::int64_t top_k, std::int64_t* index);

}  // namespace moekit::kernels
