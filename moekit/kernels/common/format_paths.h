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
  /// bfloat16 products of a training step in which an expert has few rows: reading and rounding
  /// float parameters counts there, so that a set serves that multiplies rounded floats.
  Isa few_bf16;

  // NOLINTNEXTLINE(google-explicit-constructor): one for all is the common case
  FormatPaths(Isa all) : FormatPaths(all, all, all) {}
  FormatPaths(Isa f32_, Isa bf16_, Isa int8_)
      : f32(f32_), bf16(bf16_), int8(int8_), few_bf16(bf16_) {}
  bool operator==(const FormatPaths&) const = default;
};

/// What one thread's registers reach with an instruction set, operations a second.
struct IsaRates {
  Isa isa;
  double f32 = 0;
  double bf16 = 0;
  double int8 = 0;
};

/// What was measured of all sets of this machine but the reference.
struct MeasuredSets {
  std::vector<IsaRates> rates;  ///< in the order of supported_isas()
  std::vector<Isa> refused;     ///< the processor has no such instructions in spite of its flags
};

/// Sets take turns, so that what else the machine does meets all of them alike; some milliseconds.
MeasuredSets measure_sets();

/// For each kind of operands the first set, unless a later one is faster by a quarter: what a busy
/// machine makes of the same rate must not turn the choice.
/// @param rates  may be empty: the reference
FormatPaths choose_paths(const std::vector<IsaRates>& rates);
/// Why choose_paths() takes the set it takes for one kind of operands: "avx512: 176 against 89 of
/// avx512-vnni", in 10^9 operations a second, or "avx512-vnni: no other is faster by a quarter".
std::string why_chosen(const std::vector<IsaRates>& rates, double IsaRates::*rate);

/// What runs here, and which sets cannot although the processor says so.
struct PathChoice {
  FormatPaths paths;
  std::vector<Isa> refused;
  bool operator==(const PathChoice&) const = default;
};

/// What the rates come to; kept in the user's cache (common/path_cache.h), so that later processes
/// choose alike.
PathChoice measure_choice();
/// The choice found in the cache, or else measured, at the first call.
const PathChoice& known_choice();

/// `paths` with, where bf16's set has a product of its own, the first other one of this machine
/// that multiplies rounded floats for few_bf16.
/// @param refused  sets that the processor has not in spite of its flags
FormatPaths with_few_rows(FormatPaths paths, const std::vector<Isa>& refused);

/// MOEKIT_ISA for all, or else the known choice with_few_rows(). @throws ArgumentError as
/// forced_isa()
FormatPaths default_paths();
/// The set of float32 among them, which kernels of one path use.
Isa default_isa();

/// "avx512-vnni", or "avx512-vnni, bf16 by avx512", and of few rows what differs from bf16.
std::string paths_text(const FormatPaths& paths);

}  // namespace moekit::kernels
