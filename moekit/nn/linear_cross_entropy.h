#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// Mean cross entropy of a linear map onto a vocabulary, -mean_n log softmax(hidden_n
/// W')[target_n], whose logits [N, V] are never there as a whole: a block of rows at a time gives
/// its part of the loss and, where gradients are wanted, of these, which need no more than the
/// loss's own gradient to be scaled by. It may be differentiated twice; the second time logits are
/// made.
/// @param hidden [N, D], N at least 1 @param weight [V, D] @param target [N] int64, 0..V-1
/// @return a scalar, float32 at least; gradient flows to hidden and weight
/// @throws ArgumentError when shapes do not fit or a target is not in the vocabulary.
torch::Tensor linear_cross_entropy(const torch::Tensor& hidden, const torch::Tensor& weight,
                                   const torch::Tensor& target);

/// The same of each row, [N], without gradient.
torch::Tensor linear_token_losses(const torch::Tensor& hidden, const torch::Tensor& weight,
                                  const torch::Tensor& target);

}  // namespace moekit::nn
