#pragma once

#include <optional>
#include <string_view>
#include <vector>

/// Which instructions the expert kernels use. All give the same numbers up to the order of sums.
namespace moekit::kernels {

enum class Isa {
  kReference,   ///< plain loops that define the result; any machine
  kAvx2,        ///< AVX2 and FMA
  kAvx512,      ///< AVX-512 F, BW, VL, DQ
  kAvx512Vnni,  ///< and BF16, VNNI: native products of bfloat16 and int8
  kAvx512Amx,   ///< and AMX: products of bfloat16 and int8 on tiles
  kNeon,        ///< ARMv8.0's vectors
  kNeonDot,     ///< and dot products of bytes (ARMv8.2)
};

std::string_view isa_name(Isa isa);

/// @throws ArgumentError naming what there is, when `name` is none of them.
Isa parse_isa(std::string_view name);

/// All there are, the fastest first.
std::vector<Isa> known_isas();
/// All that this machine runs, the fastest first.
std::vector<Isa> supported_isas();
bool isa_supported(Isa isa);

/// Whether this processor follows a stream of memory by itself so well that asking for its lines
/// only costs instructions. By the processor's family, since what it brings is less than what
/// neighbours on a machine make of two measurements.
bool follows_streams();

/// The one that the environment variable MOEKIT_ISA names, if it is set.
/// @throws ArgumentError when it names none, or one that this machine lacks
std::optional<Isa> forced_isa();

/// Of a kernel that was compiled for AVX-512, for AVX2 and for any machine, the form that `isa`
/// runs: the last on ARM, as its compiler makes it. The first two may be null: the compiler had no
/// such instructions.
template <typename Kernels>
const Kernels& choose_form(Isa isa, const Kernels* avx512, const Kernels* avx2,
                           const Kernels* generic) {
  const bool has_avx512 = isa == Isa::kAvx512 || isa == Isa::kAvx512Vnni || isa == Isa::kAvx512Amx;
  if (has_avx512 && avx512 != nullptr) return *avx512;
  if ((has_avx512 || isa == Isa::kAvx2) && avx2 != nullptr) return *avx2;
  return *generic;
}

}  // namespace moekit::kernels
