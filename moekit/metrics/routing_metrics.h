#pragma once

#include <torch/types.h>

#include <vector>

#include "moekit/metrics/information.h"

namespace moekit::metrics {

/// H_s: mean over tokens of the entropy of the router's probabilities, 0 .. log E. 0 for N = 0.
double sample_entropy(const torch::Tensor& probs, LogBase base = LogBase::kBits);

/// Mean of the largest probability of each token, 1/E .. 1. 0 for N = 0.
double top1_mass(const torch::Tensor& probs);

/// Entry (i, j): share of the tokens that activate j which activate i too, N_ij / N_j; 1 on the
/// diagonal, 0 where j is never active. Not symmetric. Random baseline (K - 1) / (E - 1).
/// Source: Muennighoff et al. 2024, arXiv:2409.02060 (OLMoE), expert co-activation.
/// @param active [N, E] bool, the experts of each token @return [E, E] float64
torch::Tensor coactivation(const torch::Tensor& active);
/// @param top_k  K, or the mean number of experts a token
double coactivation_baseline(double top_k, int64_t num_experts);

/// Router saturation: mean over tokens of |early & late| / |late|, the sets of experts that two
/// checkpoints choose for the same inputs, 0..1; tokens without late experts are left out.
/// Random baseline K / E. Source: OLMoE, arXiv:2409.02060.
/// @param early, late [N, E] bool @throws ArgumentError when sizes differ.
double router_saturation(const torch::Tensor& early, const torch::Tensor& late);
/// @param top_k  K, or the mean number of experts a token
double router_saturation_baseline(double top_k, int64_t num_experts);

/// What routing costs: loss of the chosen expert minus that of the best one.
struct RoutingRegret {
  double chosen;  ///< mean over tokens, 0 when the best expert is always chosen
  double random;  ///< baseline: mean regret of an expert drawn uniformly
};
/// @param losses [E, N], each expert's own loss @param chosen [N]
RoutingRegret routing_regret(const torch::Tensor& losses, const torch::Tensor& chosen);

/// Accuracy on tokens of one label when only that label's most used experts are kept and the
/// router's mass is renormalised over them.
struct SubsetRetention {
  double all;     ///< accuracy with all experts
  double kept;    ///< with the `keep` most used ones
  double random;  ///< baseline: mean over every subset of that size (at most 64, in order)
};
/// @param probs [N, E] @param expert_log_probs [E, N, C] @param labels [N]
/// @param mask [N] bool, the tokens of the domain @param keep 1..E
SubsetRetention subset_retention(const torch::Tensor& probs, const torch::Tensor& expert_log_probs,
                                 const torch::Tensor& labels, const torch::Tensor& mask,
                                 int64_t keep);

}  // namespace moekit::metrics
