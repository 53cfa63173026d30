#pragma once

#include <algorithm>
#include <bit>
#include <cmath>

#include "moekit/kernels/mean/weighted_mean.h"

// Compiled once for each instruction set. Memory is the limit, not arithmetic.
namespace moekit::kernels {

const MeanKernels* weighted_mean_avx512();
const MeanKernels* weighted_mean_avx2();
const MeanKernels* weighted_mean_generic();

namespace {

// Sums of a tile stay in the first cache; few streams at a time spare most of their loads and
// stores, and pages of so many streams stay known. Hardware does not prefetch across small pages,
// so the next lines of every stream are asked for. Measured on 64 experts of 25 MB: without that a
// fifth longer, one stream at a time twice as long.
constexpr std::int64_t kMeanTile = 2048;
constexpr int kMeanStreams = 8;
constexpr std::int64_t kPrefetchAhead = 512;

inline double value_of(float x) { return x; }
inline double value_of(Bf16Bits x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

inline void store(double x, float& out) { out = static_cast<float>(x); }
inline void store(double x, Bf16Bits& out) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  out.bits = static_cast<std::uint16_t>(nan ? 0x7fc0 : rounded);
}

#ifdef __FMA__
using EightDoubles = double __attribute__((vector_size(64), aligned(8), may_alias));
using EightFloats = float __attribute__((vector_size(32), aligned(4), may_alias));
using EightHalves = std::uint16_t __attribute__((vector_size(16), aligned(2), may_alias));
using EightWords = std::uint32_t __attribute__((vector_size(32)));

inline EightDoubles eight(const float* x) {
  return __builtin_convertvector(*reinterpret_cast<const EightFloats*>(x), EightDoubles);
}
inline EightDoubles eight(const Bf16Bits* x) {
  const auto halves = *reinterpret_cast<const EightHalves*>(x);
  const EightWords words = __builtin_convertvector(halves, EightWords) << 16;
  EightFloats floats;
  __builtin_memcpy(&floats, &words, sizeof(floats));
  return __builtin_convertvector(floats, EightDoubles);
}
#endif

// Not inlined: GCC 12 then takes most passes through a scalar copy of the loop.
template <int kStreams, typename T>
__attribute__((noinline)) void add_streams(const T* const* inputs, const double* shares,
                                           std::int64_t begin, std::int64_t length, double* sum) {
  const T* x[kStreams];
  double share[kStreams];
  for (int k = 0; k < kStreams; ++k) {
    x[k] = inputs[k] + begin;
    share[k] = shares[k];
  }
  std::int64_t i = 0;
#ifdef __FMA__
  for (; i + 16 <= length; i += 16) {
    auto* at = reinterpret_cast<EightDoubles*>(sum + i);
    EightDoubles low = at[0];
    EightDoubles high = at[1];
    for (int k = 0; k < kStreams; ++k) {
      __builtin_prefetch(x[k] + i + kPrefetchAhead);
      low += eight(x[k] + i) * share[k];  // contracted: one rounding
      high += eight(x[k] + i + 8) * share[k];
    }
    at[0] = low;
    at[1] = high;
  }
#endif
  for (; i < length; ++i) {
    double total = sum[i];
    for (int k = 0; k < kStreams; ++k) total = std::fma(value_of(x[k][i]), share[k], total);
    sum[i] = total;
  }
}

template <typename T>
void mean_tiles(const T* const* inputs, const double* shares, std::int64_t count, std::int64_t size,
                T* out) {
  double sum[kMeanTile];
  for (std::int64_t begin = 0; begin < size; begin += kMeanTile) {
    const std::int64_t length = std::min(kMeanTile, size - begin);
    std::fill_n(sum, length, -0.0);  // which leaves also a negative zero as it is
    std::int64_t e = 0;
    for (; e + kMeanStreams <= count; e += kMeanStreams) {
      add_streams<kMeanStreams>(inputs + e, shares + e, begin, length, sum);
    }
    for (; e < count; ++e) add_streams<1>(inputs + e, shares + e, begin, length, sum);
    for (std::int64_t i = 0; i < length; ++i) store(sum[i], out[begin + i]);
  }
}

constexpr MeanKernels kMeanKernels{&mean_tiles<float>, &mean_tiles<Bf16Bits>};

}  // namespace
}  // namespace moekit::kernels
