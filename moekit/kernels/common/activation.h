#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "moekit/core/enum_names.h"

namespace moekit {

/// Activations of feed-forward experts. The gated ones multiply act(gate_proj x) with up_proj x.
/// Not every kernel has code for each: `kernels::has_ffn_kernel`, `kernels::has_patch_kernel`.
enum class Activation {
  kIdentity,
  kRelu,
  kGelu,  ///< the exact one, x * Phi(x)
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

template <>
struct EnumNames<Activation> {
  static constexpr std::array<std::pair<Activation, std::string_view>, 11> kTable{{
      {Activation::kIdentity, "identity"},
      {Activation::kRelu, "relu"},
      {Activation::kGelu, "gelu"},
      {Activation::kSilu, "silu"},
      {Activation::kSwiglu, "swiglu"},
      {Activation::kGeglu, "geglu"},
      {Activation::kReglu, "reglu"},
      {Activation::kCubic, "cubic"},
      {Activation::kTanh, "tanh"},
      {Activation::kCelu, "celu"},
      {Activation::kSquaredRelu, "squared_relu"},
  }};
};

}  // namespace moekit
