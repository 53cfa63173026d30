#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// E * sum_i f_i P_i, with f_i the share of the N * K assignments that expert i got (a constant for
/// the gradient) and P_i the mean of its router_probs. 1 when load and probabilities are uniform,
/// E / K when every token goes to the same K experts with all mass on them.
/// The softmax is taken once, by whoever made `probs`: pass probabilities, never logits.
/// Source: Fedus et al. 2021, arXiv:2101.03961, eq. 4-6 (K = 1), normalized by K for K > 1.
/// @param probs [N, E] @param expert_index [N, K]
/// @throws ArgumentError when a row of probs does not sum to 1 (logits given by mistake).
torch::Tensor load_balance_loss(const torch::Tensor& probs, const torch::Tensor& expert_index);

}  // namespace moekit::nn
