// What both AVX-512 variants share: vectors of 16, their transposition, and float products.
#pragma once

#include <immintrin.h>

#include "moekit/kernels/expert_ffn_impl.h"

namespace moekit::kernels {
namespace {

template <typename I, bool bf16>
struct PickProduct {
  using type = typename I::F32;
};
template <typename I>
struct PickProduct<I, true> {
  using type = typename I::Bf16;
};

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

  static MOEKIT_INLINE void transpose(Float* rows) {
    __m512 a[16], b[16];
    each<8>([&](auto i) MOEKIT_LAMBDA {
      a[2 * i] = _mm512_unpacklo_ps((__m512)rows[2 * i], (__m512)rows[2 * i + 1]);
      a[2 * i + 1] = _mm512_unpackhi_ps((__m512)rows[2 * i], (__m512)rows[2 * i + 1]);
    });
    const auto low = [](const __m512& x, const __m512& y) MOEKIT_LAMBDA {
      return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
    };
    const auto high = [](const __m512& x, const __m512& y) MOEKIT_LAMBDA {
      return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
    };
    // b[4 q + j], quarter l: column 4 l + j of rows 4 q .. 4 q + 3.
    each<4>([&](auto q) MOEKIT_LAMBDA {
      b[4 * q] = low(a[4 * q], a[4 * q + 2]);
      b[4 * q + 1] = high(a[4 * q], a[4 * q + 2]);
      b[4 * q + 2] = low(a[4 * q + 1], a[4 * q + 3]);
      b[4 * q + 3] = high(a[4 * q + 1], a[4 * q + 3]);
    });
    each<4>([&](auto j) MOEKIT_LAMBDA {
      const __m512 even01 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88);
      const __m512 odd01 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
      const __m512 even23 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
      const __m512 odd23 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
      rows[j] = (Float)_mm512_shuffle_f32x4(even01, even23, 0x88);
      rows[8 + j] = (Float)_mm512_shuffle_f32x4(even01, even23, 0xdd);
      rows[4 + j] = (Float)_mm512_shuffle_f32x4(odd01, odd23, 0x88);
      rows[12 + j] = (Float)_mm512_shuffle_f32x4(odd01, odd23, 0xdd);
    });
  }
};

}  // namespace
}  // namespace moekit::kernels
