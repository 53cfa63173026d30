#pragma once

#include <torch/types.h>

#include "moekit/core/enum_names.h"

namespace moekit::nn {

/// Activations of feed-forward experts. The gated ones multiply act(gate_proj x) with up_proj x.
enum class Activation {
  kIdentity,
  kRelu,
  kGelu,
  kSilu,
  kSwiglu,
  kGeglu,
  kReglu,
  kCubic,  ///< z^3
  kTanh,
  kCelu,
  kSquaredRelu,  ///< max(z, 0)^2
};

bool is_gated(Activation activation);

/// The pointwise part: SiLU for SwiGLU and so on. Gradient flows.
torch::Tensor activate(const torch::Tensor& x, Activation activation);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::Activation> {
  static constexpr std::array<std::pair<nn::Activation, std::string_view>, 11> kTable{{
      {nn::Activation::kIdentity, "identity"},
      {nn::Activation::kRelu, "relu"},
      {nn::Activation::kGelu, "gelu"},
      {nn::Activation::kSilu, "silu"},
      {nn::Activation::kSwiglu, "swiglu"},
      {nn::Activation::kGeglu, "geglu"},
      {nn::Activation::kReglu, "reglu"},
      {nn::Activation::kCubic, "cubic"},
      {nn::Activation::kTanh, "tanh"},
      {nn::Activation::kCelu, "celu"},
      {nn::Activation::kSquaredRelu, "squared_relu"},
  }};
};
