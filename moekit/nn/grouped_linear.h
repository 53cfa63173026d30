#pragma once

#include <torch/types.h>

#include <vector>

namespace moekit::nn {

/// y[rows of e] = x[rows of e] weight[e]' + bias[e], where expert e owns rows offsets[e] to
/// offsets[e+1]-1. One autograd node over the whole stack: indexing a stacked parameter per
/// expert would fill a zero tensor of the full stack for each of them in the backward pass.
/// @param x        [A, D], rows grouped by expert
/// @param weight   [E, O, D]
/// @param bias     [E, O] or undefined
/// @param offsets  [E + 1], from 0 to A
/// @return [A, O]. Gradient for x, weight and bias; exact zeros for an expert without rows, whose
///         weights are not read. Differentiable any number of times.
/// @throws ArgumentError when sizes, types or offsets do not fit.
torch::Tensor grouped_linear(const torch::Tensor& x, const torch::Tensor& weight,
                             const torch::Tensor& bias, const std::vector<int64_t>& offsets);

/// Which expert each of such rows is of, [A] int64.
torch::Tensor expert_of_rows(const std::vector<int64_t>& offsets);

/// All experts on all tokens: y[e] = x[e] weight[e]' + bias[e].
/// @param x  [N, D], shared by all experts, or [E, N, D]
/// @return [E, N, O]
torch::Tensor stacked_linear(const torch::Tensor& x, const torch::Tensor& weight,
                             const torch::Tensor& bias);

}  // namespace moekit::nn
