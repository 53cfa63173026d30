#include "moekit/kernels/common/isa.h"

#include <array>
#include <cstdlib>
#include <iterator>
#include <string>

#include "moekit/core/error.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace moekit::kernels {
namespace {

/// Whether the processor has tiles of bfloat16 and int8 and the system lets this process use them.
bool has_amx() {
#if defined(__x86_64__) && defined(__linux__)
  // Linux saves the 8 KiB of tiles only for a process that asks, which holds for all its threads
  // (Documentation/arch/x86/xstate.rst). It refuses where it does not know them.
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  static const bool kGranted = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
    constexpr unsigned kFlags = (1U << 22) | (1U << 24) | (1U << 25);  // AMX-BF16, -TILE, -INT8
    if ((d & kFlags) != kFlags) return false;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return kGranted;
#else
  return false;
#endif
}

bool has_avx512_vnni() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

bool has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_neon() {
#if defined(__aarch64__)
  return (::getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
#else
  return false;
#endif
}

bool has_neon_dot() {
#if defined(__aarch64__)
  return has_neon() && (::getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}

struct IsaRow {
  Isa isa;
  std::string_view name;
  bool (*supported)();
};

/// Fastest first.
constexpr std::array<IsaRow, 7> kIsas{{
    {Isa::kAvx512Amx, "avx512-amx", [] { return has_avx512() && has_avx512_vnni() && has_amx(); }},
    {Isa::kAvx512Vnni, "avx512-vnni", [] { return has_avx512() && has_avx512_vnni(); }},
    {Isa::kAvx512, "avx512", has_avx512},
    {Isa::kAvx2, "avx2", has_avx2},
    {Isa::kNeonDot, "neon-dot", has_neon_dot},
    {Isa::kNeon, "neon", has_neon},
    {Isa::kReference, "reference", [] { return true; }},
}};

const IsaRow& row_of(Isa isa) {
  for (const auto& row : kIsas) {
    if (row.isa == isa) return row;
  }
  throw ArgumentError("isa: unknown");
}

}  // namespace

std::string_view isa_name(Isa isa) { return row_of(isa).name; }

Isa parse_isa(std::string_view name) {
  std::string known;
  for (const auto& row : kIsas) {
    if (row.name == name) return row.isa;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw ArgumentError(concat("instruction set ", name, " is unknown; wanted one of ", known));
}

std::vector<Isa> known_isas() {
  std::vector<Isa> isas;
  isas.reserve(std::size(kIsas));
  for (const auto& row : kIsas) isas.push_back(row.isa);
  return isas;
}

bool follows_streams() {
#if defined(__x86_64__) && defined(__linux__)
  // AMD from Zen 5 on (family 26): 1 and 4 tokens in bf16 and int8 take 5 to 7 % less without. No
  // other processor was tried.
  static const bool kFollows = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(0, &a, &b, &c, &d) == 0) return false;
    if (b != signature_AMD_ebx || c != signature_AMD_ecx || d != signature_AMD_edx) return false;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0) return false;
    const unsigned family = ((a >> 8) & 0xf) + ((a >> 20) & 0xff);
    return family >= 26;
  }();
  return kFollows;
#else
  return false;
#endif
}

bool isa_supported(Isa isa) { return row_of(isa).supported(); }

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const auto& row : kIsas) {
    if (row.supported()) isas.push_back(row.isa);
  }
  return isas;
}

std::optional<Isa> forced_isa() {
  const char* forced = std::getenv("MOEKIT_ISA");
  if (forced == nullptr || *forced == '\0') return std::nullopt;
  Isa isa{};
  try {
    isa = parse_isa(forced);
  } catch (const ArgumentError& error) {
    throw ArgumentError(concat("MOEKIT_ISA: ", error.what()));
  }
  MOEKIT_CHECK(isa_supported(isa), "MOEKIT_ISA=", forced, ": this machine lacks it");
  return isa;
}

}  // namespace moekit::kernels
