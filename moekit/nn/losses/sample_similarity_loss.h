#pragma once

#include <torch/types.h>

#include "moekit/core/enum_names.h"
#include "moekit/core/field_rule.h"
#include "moekit/nn/losses/aux_loss.h"

namespace moekit::nn {

/// How the two sums over pairs of samples are normalised.
enum class SimilarityScale {
  kMean,      ///< both by N^2: coefficients do not depend on the batch size
  kReleased,  ///< as the paper's code: the first sum not at all, the second by N^2
};

struct SampleSimilarityOptions {
  double beta_same = 0;       ///< beta_s, pulls similar samples to the same expert
  double beta_different = 0;  ///< beta_d, pushes dissimilar samples to different experts
  SimilarityScale scale = SimilarityScale::kMean;
};

/// beta_s/E sum_{n,m} sum_i p_i(x_n) p_i(x_m) D_nm
///   - beta_d/(E^2-E) sum_{n,m} sum_{i != j} p_i(x_n) p_j(x_m) D_nm, normalised as asked.
/// Because rows of P sum to 1, sum_{i != j} is 1 - (P P')_nm: one product in place of E^2 passes.
/// Gradient flows into `probs` alone. With E = 1 the second term is 0.
/// Source: Krishnamurthy et al. 2023, arXiv:2302.14703 (L_s), as in the released code.
/// @param probs [N, E] @param distance [N, N], from `pairwise_distance`
torch::Tensor sample_similarity_loss(const torch::Tensor& probs, const torch::Tensor& distance,
                                     const SampleSimilarityOptions& options);

/// Euclidean distances of the flattened samples, exact 0 for identical ones. No gradient.
/// Products are in float32 at least, with the mean taken off first: relative error about 1e-3
/// for the closest pairs, 1e-6 for common ones.
/// @param samples [N, ...] @return [N, N]
torch::Tensor pairwise_distance(const torch::Tensor& samples);

/// Its keys in a recipe's section `loss`.
struct SimilarityLossOptions {
  double same = 0;
  double different = 0;
  SimilarityScale scale = SimilarityScale::kMean;
  bool relative = false;

  template <typename Field>
  void visit(Field&& field) {
    field("similarity_same", same, "beta_s: similar samples share an expert", at_least(0));
    field("similarity_different", different, "beta_d: dissimilar samples do not", at_least(0));
    field("similarity_scale", scale, "both sums by N^2, or as the released code");
    field("similarity_relative", relative, "distances over the batch's largest");
  }
};
void check_similarity_loss(const SimilarityLossOptions& options, const LossSite& site,
                           const std::string& where);
AuxLoss make_similarity_loss(const SimilarityLossOptions& options, const LossSite& site);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::SimilarityScale> {
  static constexpr std::array<std::pair<nn::SimilarityScale, std::string_view>, 2> kTable{{
      {nn::SimilarityScale::kMean, "mean"},
      {nn::SimilarityScale::kReleased, "released"},
  }};
};
