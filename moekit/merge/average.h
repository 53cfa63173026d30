#pragma once

#include <vector>

#include "moekit/nn/experts.h"

namespace moekit::merge {

/// Shares of `weights` in their sum. @throws ArgumentError for no weight, one that is negative, NaN
/// or infinite, or a sum of zero
std::vector<double> shares_of(const std::vector<double>& weights);

/// The weighted mean of experts, tensor by tensor, computed in double and rounded once; tensors of
/// whole numbers (counters) are those of the first expert. Experts that are the same give
/// themselves, bit for bit. No gradient flows.
/// @param experts  at least one, with the same names and sizes in the same order
/// @param weights  one an expert; see shares_of()
/// @throws ArgumentError for experts that differ in kind, naming the tensor
nn::ExpertTensors average(const std::vector<nn::ExpertTensors>& experts,
                          const std::vector<double>& weights);

}  // namespace moekit::merge
