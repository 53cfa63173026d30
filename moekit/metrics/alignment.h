#pragma once

#include <torch/types.h>

namespace moekit::metrics {

/// How far weights point along known unit vectors of the data.
/// @param weights     [E, d] (routers) or [E, J, d] (filters of experts)
/// @param directions  [K, d]
/// @return [E, K]: the product, signed for routers, the largest absolute one over the J filters
/// @throws ArgumentError for other shapes, J = 0, NaN or infinity
torch::Tensor alignment(const torch::Tensor& weights, const torch::Tensor& directions);

/// Whether a router follows one set of directions or another: per expert in use the largest
/// product with the first set over the largest absolute product with the second, at least 1e-30;
/// the lower median.
/// @param first, second [E, K] and [E, K'], K and K' at least 1, from alignment() @param used [E]
/// bool
/// @return 0 when no expert is used @throws ArgumentError for other shapes, NaN or infinity
/// Source: Chen et al. 2022, arXiv:2208.02813 (router learns the centres c_k, not v_k); the ratio
/// is ours.
double alignment_ratio(const torch::Tensor& first, const torch::Tensor& second,
                       const torch::Tensor& used);

/// How many of the K directions are the best-aligned one of at least one expert in use; of equal
/// ones the first. @throws ArgumentError as `alignment_ratio`
int64_t directions_covered(const torch::Tensor& aligned, const torch::Tensor& used);

}  // namespace moekit::metrics
