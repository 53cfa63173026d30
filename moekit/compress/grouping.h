#pragma once

#include <torch/types.h>

#include <vector>

#include "moekit/compress/options.h"

namespace moekit::compress {

/// Experts joined to `count` groups: the two most alike groups become one until so many are left,
/// of equally alike ones those of the lowest experts first. A pair whose similarity is NaN is less
/// alike than any other. Deterministic.
/// @param similarity  [E, E], symmetric; the diagonal is not read
/// @param count  1..E
/// @return the experts of each group in ascending order, groups in the order of their first one
/// @throws ArgumentError for another shape or count
/// Source: agglomerative clustering as by Li et al. 2024, HC-SMoE, arXiv:2410.08589, section 3.2.
std::vector<std::vector<int64_t>> group_experts(const torch::Tensor& similarity, int64_t count,
                                                Linkage linkage);

}  // namespace moekit::compress
