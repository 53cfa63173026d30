#include "moekit/kernels/expert_ffn_kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

#include "moekit/kernels/expert_ffn_widened_impl.h"

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
  using Bf16 = WidenedBf16<Avx2>;
  using Int8 = WidenedInt8<Avx2>;
  template <bool bf16, int unused = 0>
  struct Pick {
    using type = F32;
  };
  template <int unused>
  struct Pick<true, unused> {
    using type = Bf16;
  };
  template <bool bf16>
  using Product = typename Pick<bf16>::type;

  static MOEKIT_INLINE void stream(float* to, const Float& v) { _mm256_stream_ps(to, (__m256)v); }
  template <typename V>
  static MOEKIT_INLINE void keep(V& v) {
    asm volatile("" : "+x"(v));
  }

  static MOEKIT_INLINE void transpose(Float* rows) {
    __m256 a[8], b[8];
    each<4>([&](auto i) MOEKIT_LAMBDA {
      a[2 * i] = _mm256_unpacklo_ps((__m256)rows[2 * i], (__m256)rows[2 * i + 1]);
      a[2 * i + 1] = _mm256_unpackhi_ps((__m256)rows[2 * i], (__m256)rows[2 * i + 1]);
    });
    const auto low = [](const __m256& x, const __m256& y) MOEKIT_LAMBDA {
      return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(x), _mm256_castps_pd(y)));
    };
    const auto high = [](const __m256& x, const __m256& y) MOEKIT_LAMBDA {
      return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(x), _mm256_castps_pd(y)));
    };
    // b[4 q + j], half l: column 4 l + j of rows 4 q .. 4 q + 3.
    each<2>([&](auto q) MOEKIT_LAMBDA {
      b[4 * q] = low(a[4 * q], a[4 * q + 2]);
      b[4 * q + 1] = high(a[4 * q], a[4 * q + 2]);
      b[4 * q + 2] = low(a[4 * q + 1], a[4 * q + 3]);
      b[4 * q + 3] = high(a[4 * q + 1], a[4 * q + 3]);
    });
    each<4>([&](auto j) MOEKIT_LAMBDA {
      rows[j] = (Float)_mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
      rows[4 + j] = (Float)_mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
    });
  }
};

}  // namespace

const FfnKernels* ffn_kernels_avx2() {
  static constexpr FfnKernels kernels = make_kernels<Avx2>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnKernels* moekit::kernels::ffn_kernels_avx2() { return nullptr; }
#endif
