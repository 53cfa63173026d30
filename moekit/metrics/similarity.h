#pragma once

#include <torch/types.h>

namespace moekit::metrics {

/// Cosine of the experts' weights, all of them strung together. Random weights give about 0.
/// @param weights [E, ...] or several such, as one matrix [E, P] @return [E, E] float64, 1 on the
///        diagonal (0 for an expert of zeros)
torch::Tensor weight_cosine(const torch::Tensor& weights);

/// Mean over tokens of the cosine of two experts' outputs. @param outputs [E, N, O]
torch::Tensor output_cosine(const torch::Tensor& outputs);

/// Linear centred kernel alignment of the experts' outputs on the same tokens, 0..1: 1 for outputs
/// that are equal up to rotation and scale.
/// Source: Kornblith et al. 2019, arXiv:1905.00414, eq. 2-3 (unbiased: no).
/// @param outputs [E, N, O] @return [E, E] float64
torch::Tensor linear_cka(const torch::Tensor& outputs);

/// Baseline of `linear_cka`: the same with each expert's tokens in another random order, mean over
/// pairs. Draws from `generator`.
double linear_cka_baseline(const torch::Tensor& outputs, const at::Generator& generator);

/// Mean of the entries off the diagonal; 0 for E = 1.
double mean_off_diagonal(const torch::Tensor& square);

}  // namespace moekit::metrics
