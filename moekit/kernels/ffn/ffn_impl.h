// The kernels of ffn_kernels.h, written once over a struct `I` of one instruction set's
// vectors and the few instructions the compiler's own vector types do not reach. Each isa_<isa>.h
// defines that struct (isa_avx512_amx.h with matrix tiles besides, see amx_impl.h);
// forward_<isa>.cpp takes this file with it and backward_<isa>.cpp backward_impl.h, two sources so
// that neither compiles long.
// Everything is in an unnamed namespace and no inline function of another header is called, so that
// no code made for AVX-512 can be linked into another path.
//
// One product: a left operand of `rows` rows, broadcast 32 bits at a time, times a panel of 64
// columns that lies as [step][64 columns][32 bits]. A tile is 6 rows by 64 columns: with 16 lanes
// that is 24 accumulators, 4 vectors of weights and one broadcast, 29 of 32 registers, and 24
// multiply-adds for 10 loads; two multiply-adds a cycle of latency 4 need 8 independent ones.
// See docs/kernels.md.
#pragma once

#include <cstdint>

#include "moekit/kernels/ffn/forward_impl.h"

namespace moekit::kernels {
namespace {

/// `count` rounds of as many independent multiply-adds as a tile has, on registers alone.
template <typename I, typename Op>
void spin(std::int64_t count) {
  constexpr int chains = kTileRows * I::kTileVectors;  // two a cycle of latency 4 need 8
  typename Op::Acc acc[chains];
  each<chains>([&](auto i) MOEKIT_LAMBDA { acc[i] = typename Op::Acc{}; });
  alignas(64) static constexpr char zeros[64] = {};
  auto right = right_of<Op, 0>(zeros);
  auto left = Op::left(0);
  // The compiler must not know the operands: products with zeros would be left out, and those of
  // widened int8, which do not depend on the sums, computed once for all.
  const auto renew = [](auto& operand) MOEKIT_LAMBDA {
    if constexpr (requires { operand.first; }) {
      I::keep(operand.first);
      I::keep(operand.second);
    } else {
      I::keep(operand);
    }
  };
  renew(right);
  for (std::int64_t n = 0; n < count; ++n) {
    each<chains>([&](auto i) MOEKIT_LAMBDA {
      each<halves_of<Op>()>([&](auto) MOEKIT_LAMBDA {
        renew(left);
        acc[i] = Op::dot(acc[i], left, right);
      });
    });
  }
  each<chains>([&](auto i) MOEKIT_LAMBDA { I::keep(acc[i]); });
}

template <typename I>
std::uint32_t read(const char* data, std::int64_t bytes) {
  using U = typename I::Unsigned;
  constexpr std::int64_t kAhead = 16384;  // bytes fetched ahead
  U sums[4] = {};
  std::int64_t i = 0;
  for (; i + 256 <= bytes; i += 256) {
    for (int line = 0; line < 4; ++line) __builtin_prefetch(data + i + kAhead + 64 * line);
    for (std::int64_t j = 0; j < 256; j += 4 * sizeof(U)) {
      each<4>([&](auto v) MOEKIT_LAMBDA {
        if (j + (v + 1) * static_cast<std::int64_t>(sizeof(U)) <= 256) {
          sums[v] += load<U>(data + i + j + v * static_cast<std::int64_t>(sizeof(U)));
        }
      });
    }
  }
  const U all = sums[0] + sums[1] + sums[2] + sums[3];
  std::uint32_t sum = 0;
  for (int l = 0; l < I::kLanes; ++l) sum += all[l];
  return sum;
}

/// What measures a product: on matrix tiles where it has them.
template <typename I, typename Op>
constexpr auto spin_of() -> void (*)(std::int64_t) {
  if constexpr (kOnTiles<Op>) {
    return spin_tiles<Op>;
  } else {
    return spin<I, Op>;
  }
}

/// Operations of one round of it, of which a lane has `per_lane`.
template <typename I, typename Op>
constexpr std::int64_t spin_operations(std::int64_t per_lane) {
  constexpr std::int64_t lanes =
      kOnTiles<Op> ? kMatrixRows * kMatrixRows * kChunk : kTileRows * I::kTileVectors * I::kLanes;
  return lanes * per_lane;
}

template <typename I>
void write(char* data, std::int64_t bytes) {
  using F = typename I::Float;
  for (std::int64_t i = 0; i < bytes; i += sizeof(F)) {
    I::stream(reinterpret_cast<float*>(data + i), F{});
  }
}

template <typename I>
constexpr FfnKernels make_kernels() {
  using F32 = typename I::F32;
  using Bf16 = typename I::Bf16;
  using Int8 = typename I::Int8;
  return {up<I>,
          down<I>,
          round_rows<I>,
          round_floats<I>,
          halves_of<Bf16>() == 2,
          quantize_rows<I>,
          spin_of<I, F32>(),
          spin_of<I, Bf16>(),
          spin_of<I, Int8>(),
          {spin_operations<I, F32>(2), spin_operations<I, Bf16>(4), spin_operations<I, Int8>(8)},
          read<I>,
          write<I>};
}

}  // namespace
}  // namespace moekit::kernels
