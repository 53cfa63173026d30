// What both sets of ARM share: vectors of 4, their transposition, products of float and bfloat16.
#pragma once

#include <arm_neon.h>

#include "moekit/kernels/ffn/widened_impl.h"

namespace moekit::kernels {
namespace {

/// `word` in every lane. As a float it is loaded into a vector register, where the compiler would
/// take an integer through a general one.
MOEKIT_INLINE float32x4_t broadcast_word(std::uint32_t word) {
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return vdupq_n_f32(value);
}

/// 4 lanes and 32 registers: a tile is 6 x 16, and a panel takes four passes.
template <typename Derived>
struct NeonBase {
  static constexpr int kLanes = 4;
  static constexpr int kTileVectors = 4;
  using Float = float __attribute__((vector_size(16)));
  using Int = std::int32_t __attribute__((vector_size(16)));
  using Unsigned = std::uint32_t __attribute__((vector_size(16)));
  using Half = std::uint16_t __attribute__((vector_size(8)));
  using Bytes = std::int8_t __attribute__((vector_size(4)));

  static MOEKIT_INLINE Float multiply_add(const Float& a, const Float& b, const Float& c) {
    return (Float)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
  }
  struct F32 {
    using Acc = Float;
    using Right = Float;
    using Left = Float;
    static MOEKIT_INLINE Right right(const void* from) { return load<Float>(from); }
    static MOEKIT_INLINE Left left(std::uint32_t bits) { return (Float)broadcast_word(bits); }
    static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
      return multiply_add(a, b, acc);
    }
  };
  struct Bf16 : WidenedBf16<Derived> {
    static MOEKIT_INLINE auto left(std::uint32_t pair) {
      using Left = typename WidenedBf16<Derived>::Left;
      return Left{(Float)broadcast_word(pair << 16), (Float)broadcast_word(pair & 0xffff0000U)};
    }
  };

  /// Through the caches: what goes past them, stnp, is a hint and stores two vectors at once.
  static MOEKIT_INLINE void stream(float* to, const Float& v) { store(to, v); }
  template <typename V>
  static MOEKIT_INLINE void keep(V& v) {
    asm volatile("" : "+w"(v));
  }

  /// emit(0, a, b, c, d) with the columns of 4 rows of 4 floats: row i lies at
  /// quarter[0] + i * stride.
  template <typename Emit>
  static MOEKIT_INLINE void transpose(const char* const* quarter, std::int64_t stride,
                                      std::int64_t stride3, const Emit& emit) {
    const auto row = [&](std::int64_t at)
                         MOEKIT_LAMBDA { return (float32x4_t)load<Float>(quarter[0] + at); };
    const float32x4_t rows[4] = {row(0), row(stride), row(2 * stride), row(stride3)};
    const auto a = (float64x2_t)vtrn1q_f32(rows[0], rows[1]);  // columns 0 and 2
    const auto b = (float64x2_t)vtrn2q_f32(rows[0], rows[1]);  // columns 1 and 3
    const auto c = (float64x2_t)vtrn1q_f32(rows[2], rows[3]);
    const auto d = (float64x2_t)vtrn2q_f32(rows[2], rows[3]);
    emit(Index<0>{}, (Float)vtrn1q_f64(a, c), (Float)vtrn1q_f64(b, d), (Float)vtrn2q_f64(a, c),
         (Float)vtrn2q_f64(b, d));
  }
};

}  // namespace
}  // namespace moekit::kernels
