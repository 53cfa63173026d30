#pragma once

#include <torch/types.h>

#include <vector>

namespace moekit::metrics {

/// How evenly the experts are used. From counts, or from summed probabilities.
struct LoadStats {
  std::vector<double> fraction;  ///< share of each expert, sums to 1 (all 0 without any load)
  double variation;              ///< coefficient of variation, divisor E: 0 .. sqrt(E - 1)
  double gini;                   ///< 0 (equal) .. 1 - 1/E (one expert takes all)
  double entropy_bits;           ///< H_u, 0 .. log2 E
  int64_t experts_used;          ///< with more than 1 % of a uniform share
  std::vector<int64_t> dead;     ///< the others
};

/// @param load [E], E >= 1 @throws ArgumentError naming a load that is negative, NaN or infinite
LoadStats load_stats(const torch::Tensor& load);

/// MaxVio: how far the fullest expert is above the mean, as a share of it: 0 (equal) .. E - 1; 0
/// without any load. Source: Wang et al. 2024, arXiv:2408.15664, eq. 4.
/// @param load [E], E >= 1
double max_violation(const torch::Tensor& load);

/// Share of the experts that get at least a tenth of an equal share of the load, 0 without any. The
/// threshold is ours: Wu et al. 2024, arXiv:2404.15045, who count active experts, give none.
/// @param load [E], E >= 1
double activation_share(const torch::Tensor& load);

/// Assignments per expert. @param expert [A] int64 @return [E] float64
/// @throws ArgumentError naming an expert outside 0..E-1
torch::Tensor expert_load(const torch::Tensor& expert, int64_t num_experts);

}  // namespace moekit::metrics
