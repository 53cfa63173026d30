// Products of bfloat16 and int8 for instruction sets that have none: widened to float and int16;
// and of int8's codes for those that have products of signed bytes alone.
#pragma once

#include "moekit/kernels/ffn/vectors_impl.h"

namespace moekit::kernels {
namespace {

/// The two values of a pair as floats: a bfloat16 is the upper half of a float.
template <typename I>
struct WidenedBf16 {
  using Acc = typename I::Float;
  struct Pair {
    typename I::Float first;
    typename I::Float second;
  };
  using Right = Pair;
  using Left = Pair;
  static MOEKIT_INLINE Pair split(const typename I::Unsigned& bits) {
    return {(typename I::Float)(bits << 16), (typename I::Float)(bits & 0xffff0000U)};
  }
  static MOEKIT_INLINE Right right(const void* from) {
    return split(load<typename I::Unsigned>(from));
  }
  static MOEKIT_INLINE Left left(std::uint32_t pair) {
    return split(pair - typename I::Unsigned{});
  }
  static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
    return I::multiply_add(a.second, b.second, I::multiply_add(a.first, b.first, acc));
  }
};

/// The same products where left operands are floats, rounded beforehand: two words a step, each
/// broadcast as it lies. The first products of all rows come before the second ones, so that four
/// vectors of weights and one of rows suffice beside the sums; splitting pairs on both sides took
/// 20 of 68 instructions a step, here 8 of 56.
template <typename I>
struct WidenedBf16Halves {
  static constexpr int kHalves = 2;
  using Acc = typename I::Float;
  using Right = typename I::Float;
  using Left = typename I::Float;
  template <int half>
  static MOEKIT_INLINE Right right(const void* from) {
    const auto bits = load<typename I::Unsigned>(from);
    return (Right)(half == 0 ? bits << 16 : bits & 0xffff0000U);
  }
  static MOEKIT_INLINE Left left(std::uint32_t bits) { return I::F32::left(bits); }
  static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
    return I::multiply_add(a, b, acc);
  }
};

/// Even and odd bytes as int16, unsigned codes on the right and signed ones on the left: each
/// product fits in 16 bits times 8, each pair's sum in 32 bits. Nothing saturates.
template <typename I>
struct WidenedInt8 {
  using Acc = typename I::Int;
  struct Pair {
    typename I::Int first;   // even bytes
    typename I::Int second;  // odd bytes
  };
  using Right = Pair;
  using Left = Pair;
  static MOEKIT_INLINE Right right(const void* from) {
    return right(load<typename I::Unsigned>(from));
  }
  static MOEKIT_INLINE Right right(const typename I::Unsigned& codes) {
    const auto bytes = (typename I::UnsignedWords)codes;
    return {(typename I::Int)(bytes & 0x00ff), (typename I::Int)(bytes >> 8)};
  }
  static MOEKIT_INLINE Left left(std::uint32_t quad) {
    const auto bytes = (typename I::Words)(quad - typename I::Unsigned{});
    return {(typename I::Int)((bytes << 8) >> 8), (typename I::Int)(bytes >> 8)};
  }
  static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
    return acc + I::multiply_add_pairs(a.first, b.first) +
           I::multiply_add_pairs(a.second, b.second);
  }
};

/// int8's codes with their offset of 128 taken off, for sets whose `I::Int8` takes signed bytes:
/// the smaller codes of int4 and ternary weights are the same as either.
template <typename I>
struct SignedCodes : I::Int8 {
  static MOEKIT_INLINE auto right(const void* from) {
    return I::Int8::right(load<typename I::Unsigned>(from) ^ 0x80808080U);
  }
};

}  // namespace
}  // namespace moekit::kernels
