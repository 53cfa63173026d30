// Vectors over a struct `I` of one instruction set (see ffn_impl.h): conversions, activations.
#pragma once

#include <cstdint>

#include "moekit/kernels/common/vectors_impl.h"
#include "moekit/kernels/ffn/ffn_kernels.h"

namespace moekit::kernels {
namespace {

constexpr std::int64_t kStepBytes = 4 * kPanelColumns;   // 32 bits of every column
constexpr std::int64_t kHalfPanel = kPanelColumns / 2;   // gate columns before as many up columns
constexpr std::int64_t kScaleBytes = 2 * kPanelColumns;  // bfloat16, before each group of int4

template <typename I>
MOEKIT_INLINE typename I::Half round_to_bf16(const typename I::Float& v) {
  using U = typename I::Unsigned;
  const U bits = (U)v;
  const U rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  // Rounding would carry a NaN of ones alone over into a zero.
  return __builtin_convertvector(v == v ? rounded : U{} + 0x7fc0U, typename I::Half);
}

/// The nearest bfloat16 as a float: round_to_bf16() without narrowing, which takes two shuffles.
template <typename I>
MOEKIT_INLINE typename I::Float rounded(const typename I::Float& v) {
  using U = typename I::Unsigned;
  const U bits = (U)v;
  const U nearest = (bits + 0x7fffU + ((bits >> 16) & 1U)) & 0xffff0000U;
  return (typename I::Float)(v == v ? nearest : U{} + 0x7fc00000U);
}

/// Phi(x), the normal distribution, and its density. erf by Abramowitz and Stegun 7.1.26: absolute
/// error 1.5e-7.
template <typename I>
MOEKIT_INLINE void normal(const typename I::Float& x, typename I::Float& phi,
                          typename I::Float& density) {
  using F = typename I::Float;
  const F zero{};
  const F z = x * 0.70710678118654752F;
  const F magnitude = z < zero ? -z : z;
  const F t = 1.0F / (1.0F + 0.3275911F * magnitude);
  const F e = exp_of<I>(-z * z);
  F p = 1.061405429F * t - 1.453152027F;
  p = p * t + 1.421413741F;
  p = p * t - 0.284496736F;
  p = p * t + 0.254829592F;
  const F tail = 0.5F * p * t * e;  // 1 - Phi(|x|)
  phi = x < zero ? tail : 1.0F - tail;
  density = 0.39894228040143268F * e;
}

/// act(x) and its derivative; the compiler drops what is not used.
template <typename I>
MOEKIT_INLINE void activate(Activation activation, const typename I::Float& x,
                            typename I::Float& value, typename I::Float& derivative) {
  using F = typename I::Float;
  const F zero{};
  value = derivative = zero;
  switch (activation) {
    case Activation::kRelu:
    case Activation::kReglu:
      value = x < zero ? zero : x;  // NaN stays NaN
      derivative = x > zero ? broadcast<I>(1.0F) : zero;
      break;
    case Activation::kSquaredRelu: {
      const F positive = x < zero ? zero : x;
      value = positive * positive;
      derivative = 2.0F * positive;
      break;
    }
    case Activation::kGelu:
    case Activation::kGeglu: {
      F phi, density;
      normal<I>(x, phi, density);
      value = x * phi;
      derivative = phi + x * density;
      break;
    }
    case Activation::kSwiglu: {
      const F sigmoid = 1.0F / (1.0F + exp_of<I>(-x));
      value = x * sigmoid;
      derivative = sigmoid * (1.0F + x * (1.0F - sigmoid));
      break;
    }
    default:  // refused by check_shape()
      break;
  }
}

}  // namespace
}  // namespace moekit::kernels
