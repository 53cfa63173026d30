#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// Mean over tokens of logsumexp(logits)^2: keeps router logits small.
/// Source: Zoph et al. 2022, arXiv:2202.08906, eq. 5.
/// @param logits [N, E]; gets its gradient. 0 for N = 0.
torch::Tensor router_z_loss(const torch::Tensor& logits);

}  // namespace moekit::nn
