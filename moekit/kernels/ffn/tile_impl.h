// Tiles: a few rows times a panel of 64 columns, in registers (see ffn_impl.h).
#pragma once

#include <cstdint>
#include <cstring>

#include "moekit/kernels/ffn/vectors_impl.h"

namespace moekit::kernels {
namespace {

/// The lines of the next block: rows of 2^shift lines, `stride` bytes apart, those from `split` on
/// `jump` bytes further. They are asked for one after the other while this block is computed; in
/// bursts the memory could not keep up.
struct Prefetch {
  static constexpr int kContiguous = 62;  ///< `shift` of one row of any length

  const char* base = nullptr;
  std::int64_t stride = 0;
  int shift = 0;
  std::int64_t next = 0;
  std::int64_t end = 0;
  std::int64_t split = 0;
  std::int64_t jump = 0;

  MOEKIT_INLINE void one() {
    const std::int64_t row = next >> shift;
    const std::int64_t in_row = next & ((std::int64_t{1} << shift) - 1);
    __builtin_prefetch(base + row * stride + (row >= split ? jump : 0) + (in_row << 6), 0, 2);
    ++next;
  }
  /// The next `count`, where there are as many lines as products and they are contiguous most
  /// often: working out the address of each took a sixth of such a pass (Zen 5), a third of AVX2's.
  template <int count>
  MOEKIT_INLINE void several() {
    if (shift != kContiguous) {
      each<count>([&](auto) MOEKIT_LAMBDA { one(); });
      return;
    }
    const char* at = base + (next << 6);
    each<count>([&](auto i) MOEKIT_LAMBDA { __builtin_prefetch(at + 64 * i, 0, 2); });
    next += count;
  }
};

MOEKIT_INLINE Prefetch contiguous_lines(const char* base, std::int64_t bytes) {
  return {base, 0, Prefetch::kContiguous, 0, base == nullptr ? 0 : ceil_div(bytes, 64)};
}

/// Lines that a tile asks for in a step: 0, 1, 2, 4 or this, one in two steps.
constexpr int kEverySecond = -2;

/// So many that all tiles of a panel together ask for the four of the next block's step, and
/// evenly: fetched in bursts, memory reached 80 % of the peak in place of 97 %.
constexpr int prefetches_of(int tiles) {
  return tiles == 1 ? 4 : tiles <= 3 ? 2 : tiles < 8 ? 1 : kEverySecond;
}

/// Of the lines that a step asks for, those of one pass over it: narrow sets take several, and each
/// asks for its part.
template <typename I>
constexpr int of_pass(int lines) {
  constexpr int passes = static_cast<int>(kStepBytes) / (I::kTileVectors * I::kLanes * 4);
  return lines <= passes ? 1 : lines / passes;
}

/// The lowest tile that asks for so many: run_panel() makes tiles of almost the same height, so
/// that low ones are few in their panel. Others need no code.
constexpr int lowest_tile(int prefetches) {
  int tiles = 1;
  while (prefetches != 0 && prefetches_of(tiles) != prefetches) ++tiles;
  return (static_cast<int>(kTileRows) * (tiles - 1) + 1) / tiles;
}

/// Products that a step of 32 bits takes: one, or two where each half of the bits is widened to a
/// vector of its own (WidenedBf16Halves); the left operand has as many words.
template <typename Op>
constexpr int halves_of() {
  if constexpr (requires { Op::kHalves; }) {
    return Op::kHalves;
  } else {
    return 1;
  }
}
template <typename Op, int half>
MOEKIT_INLINE typename Op::Right right_of(const void* from) {
  if constexpr (halves_of<Op>() > 1) {
    return Op::template right<half>(from);
  } else {
    return Op::right(from);
  }
}

/// Sums over `steps` of rows x panel, added to `c` [rows, 64] (or written where `first`).
/// a[r] points at row r; its steps lie `a_step` words apart, those of the panel `b_stride` bytes.
template <typename I, typename Op, int rows, int a_step, int prefetches>
void tile(const std::uint32_t* const* a, const char* b, std::int64_t b_stride, std::int64_t steps,
          char* c, bool first, Prefetch& prefetch) {
  using Acc = typename Op::Acc;
  constexpr int halves = halves_of<Op>();
  constexpr int vectors = I::kTileVectors;
  constexpr int width = vectors * I::kLanes * 4;  // bytes of a step
  static_assert(kStepBytes % width == 0);
  Prefetch lines = prefetch;
  for (std::int64_t part = 0; part < kStepBytes; part += width) {
    Acc acc[rows * vectors];
    each<rows * vectors>([&](auto i) MOEKIT_LAMBDA {
      acc[i] =
          first ? Acc{}
                : load<Acc>(c + (i / vectors) * kStepBytes + part + (i % vectors) * I::kLanes * 4);
    });
    const std::uint32_t* from[rows];
    each<rows>([&](auto r) MOEKIT_LAMBDA { from[r] = a[r]; });
    const char* weights = b + part;
    for (std::int64_t k = 0; k < steps; ++k, weights += b_stride) {
      if constexpr (prefetches == kEverySecond) {
        if ((k & 1) == 0) lines.one();
      } else if constexpr (prefetches == 4) {
        lines.template several<of_pass<I>(prefetches)>();
      } else if constexpr (prefetches > 0) {
        each<of_pass<I>(prefetches)>([&](auto) MOEKIT_LAMBDA { lines.one(); });
      }
      each<halves>([&](auto half) MOEKIT_LAMBDA {
        typename Op::Right right[vectors];
        each<vectors>([&](auto v) MOEKIT_LAMBDA {
          right[v] = right_of<Op, half>(weights + v * I::kLanes * 4);
        });
        each<rows>([&](auto r) MOEKIT_LAMBDA {
          const typename Op::Left left = Op::left(from[r][k * a_step * halves + half]);
          each<vectors>([&](auto v) MOEKIT_LAMBDA {
            acc[r * vectors + v] = Op::dot(acc[r * vectors + v], left, right[v]);
          });
        });
      });
    }
    each<rows * vectors>([&](auto i) MOEKIT_LAMBDA {
      store(c + (i / vectors) * kStepBytes + part + (i % vectors) * I::kLanes * 4, acc[i]);
    });
  }
  prefetch.next = lines.next;
}

/// As `tile` for the left operand of pack_left(), straight to rows `stride` bytes apart and past
/// the caches: a gradient is not read again soon, and a line is not fetched first. 64-byte aligned.
template <typename I, typename Op, int rows>
void stream_tile(const std::uint32_t* left, const char* b, std::int64_t steps, char* to,
                 std::int64_t stride) {
  using Acc = typename Op::Acc;
  constexpr int vectors = I::kTileVectors;
  constexpr int width = vectors * I::kLanes * 4;
  for (std::int64_t part = 0; part < kStepBytes; part += width) {
    Acc acc[rows * vectors];
    each<rows * vectors>([&](auto i) MOEKIT_LAMBDA { acc[i] = Acc{}; });
    const std::uint32_t* from = left;
    const char* weights = b + part;
    for (std::int64_t k = 0; k < steps; ++k, weights += kStepBytes, from += kTileRows) {
      typename Op::Right right[vectors];
      each<vectors>([&](auto v)
                        MOEKIT_LAMBDA { right[v] = Op::right(weights + v * I::kLanes * 4); });
      each<rows>([&](auto r) MOEKIT_LAMBDA {
        const typename Op::Left value = Op::left(from[r]);
        each<vectors>([&](auto v) MOEKIT_LAMBDA {
          acc[r * vectors + v] = Op::dot(acc[r * vectors + v], value, right[v]);
        });
      });
    }
    each<rows>([&](auto r) MOEKIT_LAMBDA {
      each<vectors>([&](auto v) MOEKIT_LAMBDA {
        I::stream(reinterpret_cast<float*>(to + r * stride + part + v * I::kLanes * 4),
                  acc[r * vectors + v]);
      });
    });
  }
}

/// What a tile of int4 needs besides: scales [group][64] and, per row, sums of the codes.
struct Groups {
  const float* scales = nullptr;
  const std::int32_t* const* sums = nullptr;
  std::int64_t steps = 0;  ///< of a group
};

/// As `tile`, for codes whose every `groups.steps` steps have scales of their own; c is float.
template <typename I, int rows, int prefetches>
void grouped_tile(const std::uint32_t* const* a, const char* b, std::int64_t steps, char* c,
                  bool first, Prefetch& prefetch, const Groups& groups) {
  using Op = typename I::Int8;
  using Acc = typename Op::Acc;
  constexpr int vectors = I::kTileVectors;
  constexpr int width = vectors * I::kLanes * 4;
  Prefetch lines = prefetch;
  for (std::int64_t part = 0; part < kStepBytes; part += width) {
    const std::uint32_t* from[rows];
    each<rows>([&](auto r) MOEKIT_LAMBDA { from[r] = a[r]; });
    const char* weights = b + part;
    for (std::int64_t g = 0; g * groups.steps < steps; ++g) {
      // Starting from -8 * sum of the codes takes the offset off: sum (u - 8) a.
      Acc acc[rows * vectors];
      each<rows * vectors>(
          [&](auto i) MOEKIT_LAMBDA { acc[i] = broadcast<I>(-8 * groups.sums[i / vectors][g]); });
      for (std::int64_t k = 0; k < groups.steps; ++k, weights += kStepBytes) {
        typename Op::Right right[vectors];
        each<vectors>([&](auto v)
                          MOEKIT_LAMBDA { right[v] = Op::right(weights + v * I::kLanes * 4); });
        if constexpr (prefetches == kEverySecond) {
          if ((k & 1) == 0) lines.one();
        } else if constexpr (prefetches == 4) {
          lines.template several<of_pass<I>(prefetches)>();
        } else if constexpr (prefetches > 0) {
          each<of_pass<I>(prefetches)>([&](auto) MOEKIT_LAMBDA { lines.one(); });
        }
        each<rows>([&](auto r) MOEKIT_LAMBDA {
          const typename Op::Left left = Op::left(from[r][k]);
          each<vectors>([&](auto v) MOEKIT_LAMBDA {
            acc[r * vectors + v] = Op::dot(acc[r * vectors + v], left, right[v]);
          });
        });
      }
      each<rows>([&](auto r) MOEKIT_LAMBDA { from[r] += groups.steps; });
      const float* scales = groups.scales + g * kPanelColumns + part / 4;
      const bool begins = first && g == 0;
      each<rows * vectors>([&](auto i) MOEKIT_LAMBDA {
        char* at = c + (i / vectors) * kStepBytes + part + (i % vectors) * I::kLanes * 4;
        const auto scale = load<typename I::Float>(scales + (i % vectors) * I::kLanes);
        const auto product = to_float<I>(acc[i]) * scale;
        store(at, begins ? product : load<typename I::Float>(at) + product);
      });
    }
  }
  prefetch.next = lines.next;
}

/// acc += `packed` steps from k on, whose codes lie in the same 256 bytes at `weights`.
template <typename I, int rows, int packed>
MOEKIT_INLINE void add_packed_steps(typename I::Int8::Acc* acc, const std::uint32_t* const* from,
                                    std::int64_t k, const char* weights, const char*& ahead) {
  using Op = typename I::Int8;
  using U = typename I::Unsigned;
  constexpr int vectors = I::kTileVectors;
  constexpr std::uint32_t mask = packed == 2 ? 0x0f0f0f0fU : 0x03030303U;
  U code[vectors];
  each<vectors>([&](auto v) MOEKIT_LAMBDA { code[v] = load<U>(weights + v * I::kLanes * 4); });
  // Four lines for these 256 bytes: no other tile asks for those of the next block.
  constexpr int lines = of_pass<I>(4);
  each<lines>([&](auto i) MOEKIT_LAMBDA { __builtin_prefetch(ahead + 64 * i, 0, 2); });
  ahead += 64 * lines;
  each<packed>([&](auto j) MOEKIT_LAMBDA {
    each<rows>([&](auto r) MOEKIT_LAMBDA {
      const typename Op::Left left = Op::left(from[r][k + j]);
      each<vectors>([&](auto v) MOEKIT_LAMBDA {
        acc[r * vectors + v] =
            Op::dot(acc[r * vectors + v], left, Op::right((code[v] >> (j * (8 / packed))) & mask));
      });
    });
  });
}

/// The same out of packed codes, two steps (int4) or four (ternary) in 256 bytes, for a panel that
/// only one tile reads: nothing is written down decoded. Without groups c is int32, as `tile`.
template <typename I, int rows, int packed, bool grouped>
void packed_tile(const std::uint32_t* const* a, const char* codes, std::int64_t steps, char* c,
                 bool first, Prefetch& prefetch, const std::int32_t* const* sums,
                 std::int64_t group_steps) {
  using Acc = typename I::Int8::Acc;
  constexpr int vectors = I::kTileVectors;
  constexpr int width = vectors * I::kLanes * 4;
  const std::int64_t length = grouped ? group_steps : steps;
  const char* ahead = prefetch.base;
  for (std::int64_t part = 0; part < kStepBytes; part += width) {
    const std::uint32_t* from[rows];
    each<rows>([&](auto r) MOEKIT_LAMBDA { from[r] = a[r]; });
    const auto at = [&](auto i) MOEKIT_LAMBDA {
      return c + (i / vectors) * kStepBytes + part + (i % vectors) * I::kLanes * 4;
    };
    const char* weights = codes;
    for (std::int64_t begin = 0; begin < steps; begin += length) {
      const char* scales = weights + part / 2;
      Acc acc[rows * vectors];
      each<rows * vectors>([&](auto i) MOEKIT_LAMBDA {
        if constexpr (grouped) {
          acc[i] = broadcast<I>(-8 * sums[i / vectors][begin / length]);
        } else {
          acc[i] = first ? Acc{} : load<Acc>(at(i));
        }
      });
      if constexpr (grouped) {
        weights += kScaleBytes;  // two lines
        constexpr int lines = of_pass<I>(2);
        each<lines>([&](auto i) MOEKIT_LAMBDA { __builtin_prefetch(ahead + 64 * i, 0, 2); });
        ahead += 64 * lines;
      }
      for (std::int64_t k = 0; k < length; k += packed, weights += kStepBytes) {
        add_packed_steps<I, rows, packed>(acc, from, k, weights + part, ahead);
      }
      each<rows>([&](auto r) MOEKIT_LAMBDA { from[r] += length; });
      each<rows * vectors>([&](auto i) MOEKIT_LAMBDA {
        if constexpr (grouped) {
          const auto half = load<typename I::Half>(scales + (i % vectors) * I::kLanes * 2);
          const auto scale =
              (typename I::Float)(__builtin_convertvector(half, typename I::Unsigned) << 16);
          const auto product = to_float<I>(acc[i]) * scale;
          store(at(i), first && begin == 0 ? product : load<typename I::Float>(at(i)) + product);
        } else {
          store(at(i), acc[i]);
        }
      });
    }
  }
}

template <typename I, typename Op, int a_step, int prefetches, typename... More>
MOEKIT_INLINE void tile_rows(int rows, const std::uint32_t* const* a, const char* b,
                             std::int64_t b_stride, std::int64_t steps, char* c, bool first,
                             Prefetch& prefetch, const More&... more) {
  const auto run = [&](auto r) MOEKIT_LAMBDA {
    if constexpr (sizeof...(More) == 0) {
      tile<I, Op, r + 1, a_step, prefetches>(a, b, b_stride, steps, c, first, prefetch);
    } else {
      grouped_tile<I, r + 1, prefetches>(a, b, steps, c, first, prefetch, more...);
    }
  };
  each<kTileRows>([&](auto r) MOEKIT_LAMBDA {
    if constexpr (r + 1 >= lowest_tile(prefetches)) {
      if (rows == r + 1) run(r);
    }
  });
}

template <typename I, typename Op, int a_step, typename... More>
MOEKIT_INLINE void tile_any(int rows, int prefetches, const std::uint32_t* const* a, const char* b,
                            std::int64_t b_stride, std::int64_t steps, char* c, bool first,
                            Prefetch& prefetch, const More&... more) {
  switch (prefetch.next < prefetch.end ? prefetches : 0) {
    case kEverySecond:
      return tile_rows<I, Op, a_step, kEverySecond>(rows, a, b, b_stride, steps, c, first, prefetch,
                                                    more...);
    case 0:
      return tile_rows<I, Op, a_step, 0>(rows, a, b, b_stride, steps, c, first, prefetch, more...);
    case 1:
      return tile_rows<I, Op, a_step, 1>(rows, a, b, b_stride, steps, c, first, prefetch, more...);
    case 2:
      return tile_rows<I, Op, a_step, 2>(rows, a, b, b_stride, steps, c, first, prefetch, more...);
    default:
      return tile_rows<I, Op, a_step, 4>(rows, a, b, b_stride, steps, c, first, prefetch, more...);
  }
}

}  // namespace
}  // namespace moekit::kernels
