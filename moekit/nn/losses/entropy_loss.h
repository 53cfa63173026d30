#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// Mean over tokens of the entropy of the router's softmax, in nats: 0 when every token is sure of
/// its expert, log E when undecided. From logits, so that a probability of 0 has a finite gradient.
/// @param logits [N, E]. 0 for N = 0.
torch::Tensor entropy_loss(const torch::Tensor& logits);

}  // namespace moekit::nn
