#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// Angles by which rotary positions turn pairs of channels.
struct RotaryTable {
  torch::Tensor cosine;  ///< [T, r/2] float32
  torch::Tensor sine;    ///< [T, r/2]
};

/// Angle of position t and pair i: t theta^(-2i/r). Source: Su et al. 2021, arXiv:2104.09864,
/// eq. 15. @param size  r, even @throws ArgumentError
RotaryTable rotary_table(int64_t positions, int64_t size, double theta);

/// Turns the first r channels of every head, channel i with i + r/2; the others pass.
/// @param x [B, T, H, d], d >= r, of the positions `first` .. first + T - 1 @return of x's type
torch::Tensor apply_rotary(const torch::Tensor& x, const RotaryTable& table, int64_t first = 0);

}  // namespace moekit::nn
