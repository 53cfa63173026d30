#pragma once

#include <torch/types.h>

#include <vector>

#include "moekit/metrics/information.h"

namespace moekit::metrics {

/// H_s: mean over tokens of the entropy of the router's probabilities, 0 .. log E. 0 for N = 0.
/// @param probs [N, E], E >= 1 @throws ArgumentError naming a value that is negative, NaN or
///        infinite
double sample_entropy(const torch::Tensor& probs, LogBase base = LogBase::kBits);

/// Mean of the largest probability of each token, 1/E .. 1. 0 for N = 0. @throws as above
double top1_mass(const torch::Tensor& probs);

/// Entry (i, j): share of the tokens that activate j which activate i too, N_ij / N_j; 1 on the
/// diagonal, 0 where j is never active, also there. Not symmetric. Random baseline
/// (K - 1) / (E - 1).
/// Source: Muennighoff et al. 2024, arXiv:2409.02060 (OLMoE), expert co-activation.
/// @param active [N, E] bool, the experts of each token @return [E, E] float64
/// @throws ArgumentError for another shape or dtype
torch::Tensor coactivation(const torch::Tensor& active);
/// @param top_k  K, or the mean number of experts a token @return 0 for K < 1 and for E = 1
/// @throws ArgumentError unless 0 <= K <= E and E >= 1
double coactivation_baseline(double top_k, int64_t num_experts);

/// Router saturation: mean over tokens of |early & late| / |late|, the sets of experts that two
/// checkpoints choose for the same inputs, 0..1; tokens without late experts are left out.
/// Random baseline K / E. Source: OLMoE, arXiv:2409.02060.
/// @param early, late [N, E] bool @return 0 where no token has a late expert
/// @throws ArgumentError when sizes differ.
double router_saturation(const torch::Tensor& early, const torch::Tensor& late);
/// @param top_k  K, or the mean number of experts a token
/// @throws ArgumentError unless 0 <= K <= E and E >= 1
double router_saturation_baseline(double top_k, int64_t num_experts);

/// What routing costs: loss of the chosen expert minus that of the best one.
struct RoutingRegret {
  double chosen;  ///< mean over tokens, 0 when the best expert is always chosen
  double random;  ///< baseline: mean regret of an expert drawn uniformly
};
/// @param losses [E, N], E >= 1, each expert's own loss @param chosen [N] int64
/// @return both 0 for N = 0
/// @throws ArgumentError for other shapes, and naming an expert outside 0..E-1 or a loss that is
/// NaN
///         or infinite.
RoutingRegret routing_regret(const torch::Tensor& losses, const torch::Tensor& chosen);

/// Accuracy on tokens of one label when only that label's most used experts are kept and the
/// router's mass is renormalised over them; where a token has none on them, they weigh the same.
struct SubsetRetention {
  double all;     ///< accuracy with all experts
  double kept;    ///< with the `keep` most used ones, of equally used ones those of lower index
  double random;  ///< baseline: mean over `subsets` subsets of that size
  int64_t subsets;
  bool exact;  ///< they are every subset there is; else 64, drawn one by one
};
/// @param probs [N, E] @param expert_log_probs [E, N, C] @param labels [N] int64, 0..C-1
/// @param mask [N] bool, the tokens of the domain @param keep 1..E
/// @param generator  the baseline draws from it where there are more than 64 subsets
/// @return all accuracies 0 where the domain has no token
/// @throws ArgumentError for other shapes, and naming a label outside 0..C-1, or a value that is
/// NaN
///         or infinite
SubsetRetention subset_retention(const torch::Tensor& probs, const torch::Tensor& expert_log_probs,
                                 const torch::Tensor& labels, const torch::Tensor& mask,
                                 int64_t keep, const at::Generator& generator);

}  // namespace moekit::metrics
