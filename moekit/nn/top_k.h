#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// The K largest of each row, largest first; of equal ones the lowest index first, which
/// torch::topk does not promise. Whatever chooses experts chooses through this.
/// @param scores [N, E], of any floating dtype @return [N, K] int64, without gradient
/// @throws ArgumentError unless scores are a matrix and 0 <= top_k <= E.
torch::Tensor top_k_index(const torch::Tensor& scores, int64_t top_k);

/// The largest of each row, the lowest index of equal ones. @param scores [N, E] @return [N]
torch::Tensor top1_index(const torch::Tensor& scores);

}  // namespace moekit::nn
