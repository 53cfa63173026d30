// The instructions of Intel AMX that the kernels use, in plain loops, as the operations of the
// Intel 64 and IA-32 Architectures Software Developer's Manual (vol. 2: LDTILECFG, TDPBF16PS,
// TDPBSUD, TILELOADD, TILERELEASE, TILESTORED, TILEZERO) define them. Calls no inline function of
// another header: it is compiled for AVX-512 too.
#pragma once

#include <cstdint>
#include <cstring>

#include "moekit/kernels/ffn/amx_impl.h"

namespace moekit::kernels {
namespace {

/// Denormal operands and results count as zeros of their sign, whatever MXCSR says.
inline float flushed(float value) {
  const float size = value < 0 ? -value : value;
  return size < 0x1p-126F ? value * 0.0F : value;
}

inline float float_of_bf16(const unsigned char* bytes) {
  const std::uint32_t bits = (std::uint32_t{bytes[1]} << 24) | (std::uint32_t{bytes[0]} << 16);
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return flushed(value);
}

struct EmulatedTiles {
  struct State {
    bool configured = false;
    TileConfig config{};
    unsigned char tile[8][16][64] = {};
  };
  /// Of each thread, as registers are.
  static State& state() {
    static thread_local State state;
    return state;
  }
  /// Why the first instruction was refused that would have raised an exception; null: none was.
  static const char*& fault() {
    static const char* first = nullptr;
    return first;
  }
  /// Products computed, of all threads.
  static std::int64_t& products() {
    static std::int64_t count = 0;
    return count;
  }

  static bool require(bool holds, const char* what) {
    const char* none = nullptr;
    if (!holds) {
      __atomic_compare_exchange_n(&fault(), &none, what, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
    return holds;
  }

  static void configure(const TileConfig& config) {
    bool zeros = true;
    for (const auto byte : config.reserved) zeros = zeros && byte == 0;
    for (int t = 8; t < 16; ++t) zeros = zeros && config.row_bytes[t] == 0 && config.rows[t] == 0;
    if (!require(config.palette == 1, "LDTILECFG: not palette 1")) return;
    if (!require(config.start_row == 0, "LDTILECFG: a start row")) return;
    if (!require(zeros, "LDTILECFG: reserved bytes are not 0")) return;
    for (int t = 0; t < 8; ++t) {
      if (!require(config.rows[t] <= 16 && config.row_bytes[t] <= 64, "LDTILECFG: tile too large"))
        return;
      if (!require((config.rows[t] == 0) == (config.row_bytes[t] == 0),
                   "LDTILECFG: rows without bytes, or bytes without rows"))
        return;
    }
    State& s = state();
    s.configured = true;
    s.config = config;
    std::memset(s.tile, 0, sizeof(s.tile));
  }
  static void release() { state() = State{}; }

  static bool usable(int t) {
    const State& s = state();
    return require(s.configured && s.config.rows[t] > 0, "a tile that is not configured");
  }

  template <int t>
  static void zero() {
    if (usable(t)) std::memset(state().tile[t], 0, sizeof(state().tile[t]));
  }
  template <int t>
  static void load(const void* from, std::int64_t stride) {
    if (!usable(t)) return;
    State& s = state();
    std::memset(s.tile[t], 0, sizeof(s.tile[t]));
    for (int r = 0; r < s.config.rows[t]; ++r) {
      std::memcpy(s.tile[t][r], static_cast<const char*>(from) + r * stride, s.config.row_bytes[t]);
    }
  }
  template <int t>
  static void store(void* to, std::int64_t stride) {
    if (!usable(t)) return;
    const State& s = state();
    for (int r = 0; r < s.config.rows[t]; ++r) {
      std::memcpy(static_cast<char*>(to) + r * stride, s.tile[t][r], s.config.row_bytes[t]);
    }
  }

  /// What exception class AMX-E4 asks of the three tiles of a product.
  static bool fit(int c, int a, int b) {
    const TileConfig& config = state().config;
    if (!usable(c) || !usable(a) || !usable(b)) return false;
    return require(c != a && a != b && c != b, "a product of one tile with itself") &&
           require(config.row_bytes[c] % 4 == 0 && config.row_bytes[a] % 4 == 0 &&
                       config.row_bytes[b] % 4 == 0,
                   "a product of tiles of odd widths") &&
           require(config.row_bytes[c] == config.row_bytes[b] && config.rows[c] == config.rows[a] &&
                       config.row_bytes[a] / 4 == config.rows[b],
                   "a product of tiles that do not fit");
  }

  /// row(m, sums): adds to the sums of row m of c, [columns] of 32 bits.
  template <typename Row>
  static void product(int c, const Row& row) {
    __atomic_fetch_add(&products(), 1, __ATOMIC_RELAXED);
    State& s = state();
    for (int m = 0; m < 16; ++m) {
      unsigned char sums[64] = {};
      if (m < s.config.rows[c]) {
        std::memcpy(sums, s.tile[c][m], s.config.row_bytes[c]);
        row(m, sums);
      }
      std::memcpy(s.tile[c][m], sums, sizeof(sums));
    }
  }

  /// TDPBF16PS: even and odd elements have sums of their own, each step one fused multiply-add;
  /// both are added, and only then to c. Rounding is to nearest even.
  template <int c, int a, int b>
  static void dot_bf16() {
    if (!fit(c, a, b)) return;
    const State& s = state();
    const int steps = s.config.row_bytes[a] / 4;
    const int columns = s.config.row_bytes[c] / 4;
    product(c, [&](int m, unsigned char* sums) {
      float temp[32] = {};
      for (int k = 0; k < steps; ++k) {
        const unsigned char* left = s.tile[a][m] + 4 * k;
        for (int n = 0; n < 2 * columns; ++n) {
          temp[n] = flushed(__builtin_fmaf(float_of_bf16(left + 2 * (n % 2)),
                                           float_of_bf16(s.tile[b][k] + 2 * n), temp[n]));
        }
      }
      for (int n = 0; n < columns; ++n) {
        float sum;
        std::memcpy(&sum, sums + 4 * n, sizeof(sum));
        const float both = flushed(temp[2 * n] + temp[2 * n + 1]);
        sum = flushed(flushed(sum) + both);
        std::memcpy(sums + 4 * n, &sum, sizeof(sum));
      }
    });
  }

  /// TDPBSUD: signed bytes of a times unsigned ones of b; sums wrap around.
  template <int c, int a, int b>
  static void dot_int8() {
    if (!fit(c, a, b)) return;
    const State& s = state();
    const int steps = s.config.row_bytes[a] / 4;
    const int columns = s.config.row_bytes[c] / 4;
    product(c, [&](int m, unsigned char* sums) {
      for (int n = 0; n < columns; ++n) {
        std::uint32_t sum;
        std::memcpy(&sum, sums + 4 * n, sizeof(sum));
        for (int k = 0; k < 4 * steps; ++k) {
          const int left = static_cast<signed char>(s.tile[a][m][k]);
          const int right = s.tile[b][k / 4][4 * n + k % 4];
          sum += static_cast<std::uint32_t>(left * right);
        }
        std::memcpy(sums + 4 * n, &sum, sizeof(sum));
      }
    });
  }
};

}  // namespace
}  // namespace moekit::kernels
