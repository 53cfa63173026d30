#pragma once

#include <cstdint>

#include "moekit/kernels/common/isa.h"
#include "moekit/kernels/ffn/packed_experts.h"

namespace moekit::kernels {

/// What packing and unpacking run on, one form for each instruction set; all give the same bytes.
struct PackKernels {
  /// Writes one panel whole, zeros where there is no input or no column.
  /// @param rows    [64] the weights of each column, `inputs` long; null: no such column
  /// @param scales  [64] of int8 and ternary; others take or make their own
  void (*pack)(const FormatInfo&, const float* const* rows, const float* scales,
               std::int64_t inputs, char* panel);
  /// Reads one back. @param rows  [64], null: not wanted
  void (*unpack)(const FormatInfo&, const char* panel, const float* scales, std::int64_t inputs,
                 float* const* rows);
  /// The largest |value|, 0 of none.
  float (*largest)(const float* values, std::int64_t count);
  /// Whether all of them are numbers within +-most.
  bool (*all_within)(const float* values, std::int64_t count, float most);
  /// The sum of |value| in double, in one order on every machine.
  double (*sum_of_sizes)(const float* values, std::int64_t count);
};

/// Any instruction set: those that have no form of their own take the next.
const PackKernels& pack_kernels(Isa isa);
/// Those of default_isa().
const PackKernels& pack_kernels();

}  // namespace moekit::kernels
