#pragma once

#include <torch/types.h>

#include "moekit/nn/routing.h"

namespace moekit::nn {

/// Experts of a plan that give what costs no product of matrices: from expert `first` on constant
/// ones, behind them copies.
struct BlendExperts {
  int64_t first = 0;
  int64_t constants = 0;
  int64_t copies = 0;
};

/// What they add to each token: the sum of w (a_1 x + a_2 v), [a_1, a_2] = softmax(W_c x), over the
/// token's constant experts and of w x over its copies; rows are read and written where they lie.
/// Gradient flows to tokens, weight, constant and blend; see `composed_blends` for the second one.
/// Source: Jin et al. 2024, arXiv:2410.07348, eq. 4 and 5.
/// @param tokens [N, D] float32 @param weight [A] float32, of all assignments of the plan
/// @param constant v [constants, D], @param blend W_c [constants, 2, D]; undefined without
/// @return [N, D]
torch::Tensor blend_tokens(const torch::Tensor& tokens, const torch::Tensor& weight,
                           const torch::Tensor& constant, const torch::Tensor& blend,
                           const RoutingPlan& plan, const BlendExperts& experts);

/// What constant expert `which` gives for rows. @param rows [R, D] @return [R, D]
torch::Tensor constant_rows(const torch::Tensor& rows, const torch::Tensor& constant,
                            const torch::Tensor& blend, int64_t which);

/// blend_tokens() of libtorch's operations, for any dtype.
torch::Tensor composed_blends(const torch::Tensor& tokens, const torch::Tensor& weight,
                              const torch::Tensor& constant, const torch::Tensor& blend,
                              const RoutingPlan& plan, const BlendExperts& experts);

}  // namespace moekit::nn
