#pragma once

#include <torch/types.h>

#include "moekit/core/enum_names.h"

namespace moekit::metrics {

/// Cosine of the experts' weights, all of them strung together. Random weights give about 0.
/// @param weights [E, ...] or several such, as one matrix [E, P] @return [E, E] float64, 1 on the
///        diagonal (0 for an expert of zeros, with every other too)
/// @throws ArgumentError for one dimension, NaN or infinity
torch::Tensor weight_cosine(const torch::Tensor& weights);

/// Mean over tokens of the cosine of two experts' outputs; a token at which one of them is all
/// zeros counts as 0. @param outputs [E, N, O] @return [E, E] float64, zeros for N = 0
/// @throws ArgumentError for another shape, NaN or infinity
torch::Tensor output_cosine(const torch::Tensor& outputs);

/// How the covariances in `linear_cka` are estimated.
enum class CkaEstimator {
  kBiased,    ///< HSIC_0: of unrelated outputs about O / N, and 1 where N <= O + 1
  kUnbiased,  ///< HSIC_1: about 0 for any N >= 4; may be negative
};

/// Linear centred kernel alignment of the experts' outputs on the same tokens: 1 for outputs that
/// are equal up to rotation and scale; 0..1 biased, -1..1 unbiased. NaN, which
/// `mean_off_diagonal` leaves out, where there is no value: for fewer than 2 tokens (unbiased: 4),
/// and beside an expert whose outputs do not vary (unbiased: no more than one token differs).
/// Source: Kornblith et al. 2019, arXiv:1905.00414, eq. 2-3 (biased); Song et al. 2012, JMLR 13,
/// eq. 5, in it as by Nguyen et al. 2021, arXiv:2010.15327, eq. 3 (unbiased).
/// @param outputs [E, N, O], O >= 1 @return [E, E] float64
/// @throws ArgumentError for another shape, NaN or infinity
torch::Tensor linear_cka(const torch::Tensor& outputs, CkaEstimator estimator);

/// Baseline of `linear_cka`: the same with each expert's tokens in another random order, mean over
/// pairs as `mean_off_diagonal` takes it. Draws from `generator`.
double linear_cka_baseline(const torch::Tensor& outputs, CkaEstimator estimator,
                           const at::Generator& generator);

/// A mean over pairs of different experts.
struct PairMean {
  double value;      ///< NaN where no pair counts
  int64_t counted;   ///< entries with a value
  int64_t left_out;  ///< entries that are NaN
};
/// Mean of the entries off the diagonal that are not NaN.
/// @param square [E, E] @throws ArgumentError for another shape
PairMean mean_off_diagonal(const torch::Tensor& square);

}  // namespace moekit::metrics

template <>
struct moekit::EnumNames<moekit::metrics::CkaEstimator> {
  static constexpr std::array<std::pair<metrics::CkaEstimator, std::string_view>, 2> kTable{{
      {metrics::CkaEstimator::kBiased, "biased"},
      {metrics::CkaEstimator::kUnbiased, "unbiased"},
  }};
};
