#pragma once

#include <string>
#include <vector>

#include "moekit/kernels/common/isa.h"

/// Which instruction set runs the products of which operands. A flag says that a machine has an
/// instruction, not that it is fast: on some processors bfloat16's product runs at half the rate of
/// float32's multiply-add, so that bfloat16 weights are better widened in registers.
namespace moekit::kernels {

/// For float32, bfloat16 and integer operands each.
struct FormatPaths {
  Isa f32;
  Isa bf16;
  Isa int8;  ///< int8, int4 and ternary weights

  // NOLINTNEXTLINE(google-explicit-constructor): one for all is the common case
  FormatPaths(Isa all) : f32(all), bf16(all), int8(all) {}
  FormatPaths(Isa f32_, Isa bf16_, Isa int8_) : f32(f32_), bf16(bf16_), int8(int8_) {}
  bool operator==(const FormatPaths&) const = default;
};

/// What one thread's registers reach with an instruction set, operations a second.
struct IsaRates {
  Isa isa;
  double f32 = 0;
  double bf16 = 0;
  double int8 = 0;
};

/// Of all sets of this machine but the reference, in the order of supported_isas(); takes some
/// milliseconds. One whose instructions the processor refuses in spite of its flags is left out.
std::vector<IsaRates> measure_rates();

/// For each kind of operands the first set, unless a later one is faster by a quarter: what a busy
/// machine makes of the same rate must not turn the choice.
/// @param rates  may be empty: the reference
FormatPaths choose_paths(const std::vector<IsaRates>& rates);

/// MOEKIT_ISA for all, or else what choose_paths() makes of the rates measured at the first call.
/// @throws ArgumentError as default_isa()
FormatPaths default_paths();

/// "avx512-vnni", or "avx512-vnni, bf16 by avx512".
std::string paths_text(const FormatPaths& paths);

}  // namespace moekit::kernels
