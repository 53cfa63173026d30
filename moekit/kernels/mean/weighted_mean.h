#pragma once

#include <cstdint>

#include "moekit/kernels/common/isa.h"

namespace moekit::kernels {

/// A bfloat16 as its bits: the upper half of a float's.
struct Bf16Bits {
  std::uint16_t bits;
};

/// out[i] = sum_e share_e x_e[i], by fused multiply-adds in double, input after input, rounded to
/// the type once (bfloat16: by way of float, ties to even). Of shares that sum to one within
/// rounding, equal inputs give themselves, bit for bit. The same on every machine.
/// @param inputs  `count` >= 1 arrays of `size` numbers @param shares  one an input
void weighted_mean(const float* const* inputs, const double* shares, std::int64_t count,
                   std::int64_t size, float* out);
void weighted_mean(const Bf16Bits* const* inputs, const double* shares, std::int64_t count,
                   std::int64_t size, Bf16Bits* out);

/// The form of an instruction set.
struct MeanKernels {
  void (*of_float)(const float* const*, const double*, std::int64_t, std::int64_t, float*);
  void (*of_bf16)(const Bf16Bits* const*, const double*, std::int64_t, std::int64_t, Bf16Bits*);
};
const MeanKernels& weighted_mean_kernels(Isa isa);

}  // namespace moekit::kernels
