#pragma once

#include <torch/types.h>

#include "moekit/core/enum_names.h"

namespace moekit::nn {

/// Size of the vectors that orthogonalize() gives.
enum class OrthogonalSize {
  kKeep,     ///< what is left of each, v_i: experts that are zeros at first stay so
  kUnit,     ///< 1, on the Stiefel manifold: v_i / ||v_i||
  kRestore,  ///< what it was: v_i ||u_i|| / ||v_i||
};

/// The n vectors of each token made orthogonal, in their order, by the modified Gram-Schmidt
/// process, each step done twice:
///     v_i = u_i - sum_{j<i} <v_j, u_i> / <v_j, v_j> v_j
/// A vector of which less than a thousandth is left is rounding, and becomes zeros, without
/// gradient; zeros stay zeros, with theirs. Computed in float32 at least, given in u's type; gradient flows through all v.
/// Source: Feng et al. 2025 (OMoE), arXiv:2501.10062, section 3.
/// @param u [N, n, O] @return as u @throws ArgumentError when n > O
torch::Tensor orthogonalize(const torch::Tensor& u, OrthogonalSize size = OrthogonalSize::kKeep);

/// Mean |cos| between the n vectors of a token, over pairs and tokens; vectors of zeros are in no
/// pair; 0 where there is none. @param u [N, n, O]
double mean_cosine(const torch::Tensor& u);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::OrthogonalSize> {
  static constexpr std::array<std::pair<nn::OrthogonalSize, std::string_view>, 3> kTable{{
      {nn::OrthogonalSize::kKeep, "keep"},
      {nn::OrthogonalSize::kUnit, "unit"},
      {nn::OrthogonalSize::kRestore, "restore"},
  }};
};
