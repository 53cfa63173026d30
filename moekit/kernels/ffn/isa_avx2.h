// The vectors and instructions of AVX2 with FMA.
#pragma once

#include <immintrin.h>

#include "moekit/kernels/ffn/widened_impl.h"

namespace moekit::kernels {
namespace {

/// 8 lanes and 16 registers: a tile is 6 x 16, and a panel takes four passes.
struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr int kTileVectors = 2;
  using Float = float __attribute__((vector_size(32)));
  using Int = std::int32_t __attribute__((vector_size(32)));
  using Unsigned = std::uint32_t __attribute__((vector_size(32)));
  using Words = std::int16_t __attribute__((vector_size(32)));
  using UnsignedWords = std::uint16_t __attribute__((vector_size(32)));
  using Half = std::uint16_t __attribute__((vector_size(16)));
  using Bytes = std::int8_t __attribute__((vector_size(8)));

  static MOEKIT_INLINE Float multiply_add(const Float& a, const Float& b, const Float& c) {
    return (Float)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  }
  static MOEKIT_INLINE Int multiply_add_pairs(const Int& a, const Int& b) {
    return (Int)_mm256_madd_epi16((__m256i)a, (__m256i)b);
  }
  struct F32 {
    using Acc = Float;
    using Right = Float;
    using Left = Float;
    static MOEKIT_INLINE Right right(const void* from) { return load<Float>(from); }
    static MOEKIT_INLINE Left left(std::uint32_t bits) {
      return (Float)_mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(bits)));
    }
    static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
      return multiply_add(a, b, acc);
    }
  };
  using Bf16 = WidenedBf16Halves<Avx2>;
  using Int8 = WidenedInt8<Avx2>;

  static MOEKIT_INLINE void stream(float* to, const Float& v) { _mm256_stream_ps(to, (__m256)v); }
  template <typename V>
  static MOEKIT_INLINE void keep(V& v) {
    asm volatile("" : "+x"(v));
  }

  /// emit(q, a, b, c, d) with columns 4 q .. 4 q + 3 of 8 rows of 8 floats: row 4 l + i lies at
  /// quarter[l] + i * stride.
  template <typename Emit>
  static MOEKIT_INLINE void transpose(const char* const* quarter, std::int64_t stride,
                                      std::int64_t stride3, const Emit& emit) {
    each<2>([&](auto q) MOEKIT_LAMBDA {
      __m256 part[4];  // part[i], half l: those columns of row 4 l + i
      each<4>([&](auto i) MOEKIT_LAMBDA {
        const std::int64_t at = (i == 3 ? stride3 : i * stride) + 16 * q;
        const auto four = [&](int l) MOEKIT_LAMBDA {
          return _mm_loadu_ps(reinterpret_cast<const float*>(quarter[l] + at));
        };
        part[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(four(0)), four(1), 1);
      });
      const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(part[0], part[1]));
      const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(part[0], part[1]));
      const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(part[2], part[3]));
      const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(part[2], part[3]));
      emit(q, (Float)_mm256_unpacklo_pd(a, c), (Float)_mm256_unpackhi_pd(a, c),
           (Float)_mm256_unpacklo_pd(b, d), (Float)_mm256_unpackhi_pd(b, d));
    });
  }
};

}  // namespace
}  // namespace moekit::kernels
