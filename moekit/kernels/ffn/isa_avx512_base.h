// What both AVX-512 variants share: vectors of 16, their transposition, and float products.
#pragma once

#include <immintrin.h>

#include "moekit/kernels/ffn/vectors_impl.h"

namespace moekit::kernels {
namespace {

/// 16 lanes and 32 registers: a tile is 6 x 64, a whole panel.
template <typename Derived>
struct Avx512Base {
  static constexpr int kLanes = 16;
  static constexpr int kTileVectors = 4;
  using Float = float __attribute__((vector_size(64)));
  using Int = std::int32_t __attribute__((vector_size(64)));
  using Unsigned = std::uint32_t __attribute__((vector_size(64)));
  using Words = std::int16_t __attribute__((vector_size(64)));
  using UnsignedWords = std::uint16_t __attribute__((vector_size(64)));
  using Half = std::uint16_t __attribute__((vector_size(32)));
  using Bytes = std::int8_t __attribute__((vector_size(16)));

  struct F32 {
    using Acc = Float;
    using Right = Float;
    using Left = Float;
    static MOEKIT_INLINE Right right(const void* from) { return load<Float>(from); }
    static MOEKIT_INLINE Left left(std::uint32_t bits) {
      return (Float)_mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(bits)));
    }
    static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
      return (Acc)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)acc);
    }
  };

  static MOEKIT_INLINE void stream(float* to, const Float& v) { _mm512_stream_ps(to, (__m512)v); }
  template <typename V>
  static MOEKIT_INLINE void keep(V& v) {
    asm volatile("" : "+v"(v));
  }

  /// emit(q, a, b, c, d) with columns 4 q .. 4 q + 3 of 16 rows of 16 floats: row 4 l + i lies at
  /// quarter[l] + i * stride. Quarters of rows are put together by masked loads, which leaves two
  /// stages of shuffles in place of four.
  template <typename Emit>
  static MOEKIT_INLINE void transpose(const char* const* quarter, std::int64_t stride,
                                      std::int64_t stride3, const Emit& emit) {
    each<4>([&](auto q) MOEKIT_LAMBDA {
      __m512 part[4];  // part[i], quarter l: those columns of row 4 l + i
      each<4>([&](auto i) MOEKIT_LAMBDA {
        const std::int64_t at = (i == 3 ? stride3 : i * stride) + 16 * q;
        const auto four = [&](int l) MOEKIT_LAMBDA {
          return _mm_loadu_ps(reinterpret_cast<const float*>(quarter[l] + at));
        };
        __m512 v = _mm512_castps128_ps512(four(0));
        v = _mm512_mask_broadcast_f32x4(v, 0x00f0, four(1));
        v = _mm512_mask_broadcast_f32x4(v, 0x0f00, four(2));
        part[i] = _mm512_mask_broadcast_f32x4(v, 0xf000, four(3));
      });
      const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(part[0], part[1]));
      const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(part[0], part[1]));
      const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(part[2], part[3]));
      const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(part[2], part[3]));
      emit(q, (Float)_mm512_unpacklo_pd(a, c), (Float)_mm512_unpackhi_pd(a, c),
           (Float)_mm512_unpacklo_pd(b, d), (Float)_mm512_unpackhi_pd(b, d));
    });
  }
};

}  // namespace
}  // namespace moekit::kernels
