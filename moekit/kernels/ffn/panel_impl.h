// Where blocks of weights come from, and one panel over all rows of an expert.
#pragma once

#include <cstdint>
#include <cstring>

#include "moekit/kernels/ffn/amx_impl.h"
#include "moekit/kernels/ffn/tile_impl.h"

namespace moekit::kernels {
namespace {

// ---- where blocks of weights come from --------------------------------------------------------
// block(k, steps): the weights of those steps as [step][256 bytes], where they lie (kInPlace) or
// made. lines(k, steps): what to fetch ahead for that block.

/// Packed weights that are used as they lie.
struct PackedSource {
  static constexpr bool kInPlace = true;
  static constexpr int kPacked = 1;
  static constexpr bool kGrouped = false;
  static MOEKIT_INLINE const char* packed(std::int64_t) { return nullptr; }
  static MOEKIT_INLINE std::int64_t step_stride() { return kStepBytes; }
  const char* panel;
  MOEKIT_INLINE const char* block(std::int64_t k, std::int64_t, const ThreadScratch&) const {
    return panel + k * kStepBytes;
  }
  MOEKIT_INLINE Prefetch lines(std::int64_t k, std::int64_t steps) const {
    return contiguous_lines(panel + k * kStepBytes, steps * kStepBytes);
  }
};

/// 2-bit codes: four steps in 256 bytes.
template <typename I>
struct TernarySource {
  static constexpr bool kInPlace = false;
  static constexpr int kPacked = 4;  // steps in 256 bytes
  static constexpr bool kGrouped = false;
  MOEKIT_INLINE const char* packed(std::int64_t k) const { return panel + k * kStepBytes / 4; }
  static MOEKIT_INLINE std::int64_t step_stride() { return kStepBytes; }
  const char* panel;
  MOEKIT_INLINE const char* block(std::int64_t k, std::int64_t steps,
                                  const ThreadScratch& scratch) const {
    using U = typename I::Unsigned;
    const char* from = packed(k);
    for (std::int64_t s = 0; s < steps; s += 4, from += kStepBytes) {
      for (std::int64_t v = 0; v < kStepBytes; v += sizeof(U)) {
        const U codes = load<U>(from + v);
        char* to = scratch.block + s * kStepBytes + v;
        store(to, codes & 0x03030303U);
        store(to + kStepBytes, (codes >> 2) & 0x03030303U);
        store(to + 2 * kStepBytes, (codes >> 4) & 0x03030303U);
        store(to + 3 * kStepBytes, (codes >> 6) & 0x03030303U);
      }
    }
    return scratch.block;
  }
  MOEKIT_INLINE Prefetch lines(std::int64_t k, std::int64_t steps) const {
    return contiguous_lines(packed(k), steps * kStepBytes / 4);
  }
};

/// 4-bit codes in groups: 64 bfloat16 scales, then two steps in every 256 bytes.
template <typename I>
struct Int4Source {
  static constexpr bool kInPlace = false;
  static constexpr int kPacked = 2;       // steps in 256 bytes
  static constexpr bool kGrouped = true;  // scales between the steps
  MOEKIT_INLINE const char* packed(std::int64_t k) const {
    return panel + k / group_steps * group_bytes();
  }
  static MOEKIT_INLINE std::int64_t step_stride() { return kStepBytes; }
  const char* panel;
  std::int64_t group_steps;
  MOEKIT_INLINE std::int64_t group_bytes() const {
    return kScaleBytes + group_steps * kStepBytes / 2;
  }
  MOEKIT_INLINE const char* block(std::int64_t k, std::int64_t steps,
                                  const ThreadScratch& scratch) const {
    using U = typename I::Unsigned;
    const char* from = packed(k);
    char* to = scratch.block;
    float* scales = scratch.scales;
    for (std::int64_t g = 0; g < steps; g += group_steps, scales += kPanelColumns) {
      for (std::int64_t c = 0; c < kPanelColumns; c += I::kLanes) {
        const auto half = load<typename I::Half>(from + 2 * c);
        store(scales + c, __builtin_convertvector(half, U) << 16);
      }
      from += kScaleBytes;
      for (std::int64_t s = 0; s < group_steps; s += 2, from += kStepBytes, to += 2 * kStepBytes) {
        for (std::int64_t v = 0; v < kStepBytes; v += sizeof(U)) {
          const U codes = load<U>(from + v);
          store(to + v, codes & 0x0f0f0f0fU);
          store(to + v + kStepBytes, (codes >> 4) & 0x0f0f0f0fU);
        }
      }
    }
    return scratch.block;
  }
  MOEKIT_INLINE Prefetch lines(std::int64_t k, std::int64_t steps) const {
    return contiguous_lines(packed(k), steps / group_steps * group_bytes());
  }
};

/// Of a matrix [inputs, columns] that is used without transposing, and of what is multiplied with
/// it: floats, floats rounded to bfloat16 (for sets that widen it anyway: a float's product is as
/// fast), or pairs of bfloat16.
enum class Rows { kFloat, kRounded, kPairs };

/// The form of the rows of a backward pass, and what multiplies them.
template <typename I, bool bf16>
constexpr Rows rows_of() {
  if (!bf16) return Rows::kFloat;
  return halves_of<typename I::Bf16>() == 2 ? Rows::kRounded : Rows::kPairs;
}
template <typename I, bool pairs>
struct PickProduct {
  using type = typename I::F32;
};
template <typename I>
struct PickProduct<I, true> {
  using type = typename I::Bf16;
};
template <typename I, Rows form>
using Product = typename PickProduct<I, form == Rows::kPairs>::type;

/// Writes step `k` of a block: inputs lo and hi (the second of a pair, null beyond the last) of 64
/// columns, from rows that lie along the columns.
template <typename I, Rows form>
MOEKIT_INLINE void write_step(char* to, const float* lo, const float* hi, std::int64_t columns) {
  using F = typename I::Float;
  using U = typename I::Unsigned;
  const auto part = [&](const float* row, std::int64_t c) MOEKIT_LAMBDA {
    if (row == nullptr || c >= columns) return F{};
    if (c + I::kLanes <= columns) return load<F>(row + c);
    F some{};
    std::memcpy(&some, row + c, static_cast<std::size_t>(columns - c) * sizeof(float));
    return some;
  };
  for (std::int64_t c = 0; c < kPanelColumns; c += I::kLanes) {
    const F low = part(lo, c);
    if constexpr (form == Rows::kFloat) {
      store(to + 4 * c, low);
    } else if constexpr (form == Rows::kRounded) {
      store(to + 4 * c, rounded<I>(low));
    } else {
      const F high = part(hi, c);
      store(to + 4 * c, __builtin_convertvector(round_to_bf16<I>(low), U) |
                            (__builtin_convertvector(round_to_bf16<I>(high), U) << 16));
    }
  }
}

/// Rows of a matrix [inputs, columns] as they lie: no transposing.
template <typename I, Rows form>
struct RowSource {
  static constexpr bool kInPlace = false;
  static constexpr int kPacked = 1;
  static constexpr bool kGrouped = false;
  static MOEKIT_INLINE const char* packed(std::int64_t) { return nullptr; }
  const float* matrix;  ///< at the panel's first column
  std::int64_t stride;
  std::int64_t inputs;
  std::int64_t columns;  ///< valid ones, 1..64
  /// Rows so near that a block of them fits the caches are used where they lie.
  MOEKIT_INLINE bool near() const {
    return form == Rows::kFloat && columns == kPanelColumns && stride <= 512;
  }
  MOEKIT_INLINE std::int64_t step_stride() const { return near() ? stride * 4 : kStepBytes; }
  MOEKIT_INLINE const char* block(std::int64_t k, std::int64_t steps,
                                  const ThreadScratch& scratch) const {
    if (near()) return reinterpret_cast<const char*>(matrix + k * stride);
    constexpr std::int64_t per = form == Rows::kPairs ? 2 : 1;
    for (std::int64_t s = 0; s < steps; ++s) {
      const std::int64_t input = (k + s) * per;
      const float* row = matrix + input * stride;
      write_step<I, form>(scratch.block + s * kStepBytes, row,
                          input + 1 < inputs ? row + stride : nullptr, columns);
    }
    return scratch.block;
  }
  MOEKIT_INLINE Prefetch lines(std::int64_t k, std::int64_t steps) const {
    constexpr std::int64_t per = form == Rows::kPairs ? 2 : 1;
    if (matrix == nullptr) return {};
    const std::int64_t rows = min_of(steps * per, inputs - k * per);
    return {reinterpret_cast<const char*>(matrix + k * per * stride), stride * 4, 2, 0, 4 * rows};
  }
};

/// Rows of a matrix [columns, inputs]: transposed in squares of one vector.
template <typename I, Rows form>
struct TransposedSource {
  static constexpr bool kInPlace = false;
  static constexpr int kPacked = 1;
  static constexpr bool kGrouped = false;
  static MOEKIT_INLINE const char* packed(std::int64_t) { return nullptr; }
  static MOEKIT_INLINE std::int64_t step_stride() { return kStepBytes; }
  const float* first;   ///< columns 0..block-1 of the panel
  const float* second;  ///< columns block..63, gated: block is 32; else null
  std::int64_t inputs;
  std::int64_t valid;  ///< columns of each of the two that are there
  MOEKIT_INLINE const char* block(std::int64_t k, std::int64_t steps,
                                  const ThreadScratch& scratch) const {
    const std::int64_t half = second == nullptr ? kPanelColumns : kHalfPanel;
    for (std::int64_t c = 0; c < kPanelColumns; c += kLanes) {
      const std::int64_t column = c < half ? c : c - half;
      strip(c < half ? first : second, column, k, steps, scratch.block + 4 * c);
    }
    return scratch.block;
  }
  MOEKIT_INLINE Prefetch lines(std::int64_t k, std::int64_t steps) const {
    constexpr std::int64_t per = form == Rows::kPairs ? 2 : 1;
    if (first == nullptr) return {};
    int shift = 0;
    while ((std::int64_t{16} << shift) < steps * per) ++shift;
    const std::int64_t row_bytes = inputs * 4;
    const auto* base = reinterpret_cast<const char*>(first + k * per);
    if (second == nullptr) return {base, row_bytes, shift, 0, valid << shift};
    const auto* other = reinterpret_cast<const char*>(second + k * per);
    return {
        base, row_bytes, shift, 0, 2 * valid << shift, valid, (other - base) - valid * row_bytes};
  }

 private:
  static constexpr std::int64_t kLanes = I::kLanes;
  static_assert(kLanes % 4 == 0 && kHalfPanel % kLanes == 0);
  static constexpr std::int64_t kPer = form == Rows::kPairs ? 2 : 1;

  /// One vector of columns of a block.
  __attribute__((noinline)) void strip(const float* matrix, std::int64_t column, std::int64_t k,
                                       std::int64_t steps, char* to) const {
    const std::int64_t filled = column + kLanes <= valid ? (inputs - k * kPer) / kLanes : 0;
    const std::int64_t squares = min_of(filled, steps * kPer / kLanes);
    const std::int64_t stride = inputs * 4;
    const char* quarter[kLanes / 4];
    for (std::int64_t q = 0; q < kLanes / 4; ++q) {
      quarter[q] = reinterpret_cast<const char*>(matrix + (column + 4 * q) * inputs + k * kPer);
    }
    for (std::int64_t s = 0; s < squares; ++s) {
      square(quarter, stride, to);
      for (auto& part : quarter) part += 4 * kLanes;
      to += kLanes / kPer * kStepBytes;
    }
    // At the edges: what is there, among zeros.
    for (std::int64_t s = squares * kLanes / kPer; s < steps; s += kLanes / kPer) {
      float copy[kLanes * kLanes] = {};
      const std::int64_t input = (k + s) * kPer;
      const std::int64_t count = min_of(kLanes, inputs - input);
      for (std::int64_t r = 0; r < min_of(kLanes, valid - column); ++r) {
        std::memcpy(copy + r * kLanes, matrix + (column + r) * inputs + input,
                    static_cast<std::size_t>(count) * sizeof(float));
      }
      char part[kLanes / kPer * kStepBytes];
      for (std::int64_t q = 0; q < kLanes / 4; ++q) {
        quarter[q] = reinterpret_cast<const char*>(copy + 4 * q * kLanes);
      }
      square(quarter, 4 * kLanes, part);
      for (std::int64_t o = 0; o < min_of(kLanes / kPer, steps - s); ++o) {
        std::memcpy(to + o * kStepBytes, part + o * kStepBytes, 4 * kLanes);
      }
      to += kLanes / kPer * kStepBytes;
    }
  }

  static MOEKIT_INLINE void square(const char* const* quarters, std::int64_t stride, char* to) {
    using F = typename I::Float;
    const char* quarter[kLanes / 4];
    std::int64_t stride3 = 3 * stride;
    for (std::int64_t q = 0; q < kLanes / 4; ++q) {
      quarter[q] = quarters[q];
      asm("" : "+r"(quarter[q]));  // else every row gets a pointer of its own, on the stack
    }
    asm("" : "+r"(stride3));
    I::transpose(quarter, stride, stride3,
                 [&](auto q, const F& a, const F& b, const F& c, const F& d) MOEKIT_LAMBDA {
                   char* out = to + q * 4 / kPer * kStepBytes;
                   if constexpr (form != Rows::kPairs) {
                     store(out, one(a));
                     store(out + kStepBytes, one(b));
                     store(out + 2 * kStepBytes, one(c));
                     store(out + 3 * kStepBytes, one(d));
                   } else {
                     store(out, pair(a, b));
                     store(out + kStepBytes, pair(c, d));
                   }
                 });
  }

  static MOEKIT_INLINE typename I::Float one(const typename I::Float& value) {
    if constexpr (form == Rows::kRounded) {
      return rounded<I>(value);
    } else {
      return value;
    }
  }
  static MOEKIT_INLINE typename I::Unsigned pair(const typename I::Float& low,
                                                 const typename I::Float& high) {
    using U = typename I::Unsigned;
    return __builtin_convertvector(round_to_bf16<I>(low), U) |
           (__builtin_convertvector(round_to_bf16<I>(high), U) << 16);
  }
};

// ---- one panel --------------------------------------------------------------------------------

/// Rows of a left operand that pass a panel together, in tiles of almost the same height.
struct RowBlock {
  std::int64_t first;  ///< its row in `left`
  std::int64_t rows;
  int tiles;
};

/// Adds the products of those rows and steps [k, k + n) of a panel to scratch.sums. Inlined into
/// every caller it made the code longer, and a file's compilation a third; no gain was seen.
template <typename I, typename Op, typename Source>
__attribute__((noinline)) void run_block(const LeftRows& left, const RowBlock& of,
                                         const Source& source, std::int64_t k, std::int64_t n,
                                         bool as_packed, int prefetches, Prefetch& lines,
                                         const ThreadScratch& scratch, std::int64_t group_steps) {
  const char* block = as_packed ? source.packed(k) : source.block(k, n, scratch);
  const std::int64_t b_stride = source.step_stride();
  std::int64_t row = 0;
  for (int t = 0; t < of.tiles; ++t) {
    const auto of_tile = static_cast<int>((of.rows - row + of.tiles - t - 1) / (of.tiles - t));
    const std::uint32_t* a[kTileRows];
    const std::int32_t* sums[kTileRows];
    for (int r = 0; r < of_tile; ++r) {
      const std::int64_t at = of.first + row + r;
      const std::int64_t from = left.index == nullptr ? at : left.index[at];
      a[r] = reinterpret_cast<const std::uint32_t*>(left.data + from * left.row_bytes) +
             k * halves_of<Op>();
      if constexpr (Source::kGrouped) sums[r] = left.sums + from * left.groups + k / group_steps;
    }
    char* c = reinterpret_cast<char*>(scratch.sums + row * kPanelColumns);
    row += of_tile;
    if constexpr (Source::kPacked > 1) {
      if (as_packed) {
        each<kTileRows>([&](auto r) MOEKIT_LAMBDA {
          if (of_tile == r + 1) {
            packed_tile<I, r + 1, Source::kPacked, Source::kGrouped>(a, block, n, c, k == 0, lines,
                                                                     sums, group_steps);
          }
        });
        continue;
      }
    }
    if constexpr (Source::kGrouped) {
      const Groups groups{scratch.scales, sums, group_steps};
      tile_any<I, typename I::Int8, 1>(of_tile, prefetches, a, block, b_stride, n, c, k == 0, lines,
                                       groups);
    } else {
      tile_any<I, Op, 1>(of_tile, prefetches, a, block, b_stride, n, c, k == 0, lines);
    }
  }
}

/// rows [0, count) of `left` (shifted by `first_row`) times one panel; finish(row, sums) is called
/// for every row with its 64 sums. `then` is what comes after this panel: its first block is
/// fetched ahead.
template <typename I, typename Op, typename Source, typename Finish>
MOEKIT_INLINE void run_panel(const LeftRows& left, std::int64_t first_row, std::int64_t count,
                             std::int64_t steps, const Source& source, const Source& then,
                             std::int64_t then_steps, const ThreadScratch& scratch,
                             const Finish& finish, std::int64_t group_steps = 0) {
  const std::int64_t row_blocks = ceil_div(count, kRowBlock);
  std::int64_t begin = 0;
  for (std::int64_t rb = 0; rb < row_blocks; ++rb) {
    const std::int64_t rows = (count - begin) / (row_blocks - rb);
    const auto tiles = static_cast<int>(ceil_div(rows, kTileRows));
    const bool as_packed = Source::kPacked > 1 && tiles == 1;
    // Few rows, when only reading counts: blocks that are made, or that a second tile takes too,
    // stay in the first-level cache. One tile over weights as they lie: fewer blocks, for every
    // one takes the sums out of registers and back, but of packed codes nearer ones, whose steps
    // are long.
    const bool once = Source::kInPlace && tiles == 1;
    const std::int64_t block_steps = as_packed ? 128 : tiles <= 2 && !once ? 64 : kBlockSteps;
    const int prefetches = once && scratch.follows_streams ? 0 : prefetches_of(tiles);
    // One vector tile reads weights as fast as they come. Groups of int4 take whole matrix tiles.
    const bool on_tiles = kOnTiles<Op> && tiles > 1 && group_steps % kChunk == 0;
    if constexpr (kOnTiles<Op>) {
      if (on_tiles) Op::Tiles::configure(tile_config(tile_height(rows)));
    }
    for (std::int64_t k = 0; k < steps; k += block_steps) {
      const std::int64_t n = min_of(block_steps, steps - k);
      Prefetch lines;
      if (k + n < steps) {
        lines = source.lines(k + n, min_of(block_steps, steps - k - n));
      } else if (rb + 1 < row_blocks) {
        lines = source.lines(0, min_of(block_steps, steps));
      } else {
        lines = then.lines(0, min_of(block_steps, then_steps));
      }
      if constexpr (kOnTiles<Op>) {
        if (on_tiles) {
          run_on_tiles<I, Op, Source::kGrouped>(left, first_row + begin, rows,
                                                source.block(k, n, scratch), source.step_stride(),
                                                k, n, lines, scratch, group_steps);
          continue;
        }
      }
      run_block<I, Op>(left, {first_row + begin, rows, tiles}, source, k, n, as_packed, prefetches,
                       lines, scratch, group_steps);
    }
    if constexpr (kOnTiles<Op>) {
      if (on_tiles) Op::Tiles::release();
    }
    for (std::int64_t row = 0; row < rows; ++row) {
      finish(begin + row, scratch.sums + row * kPanelColumns);
    }
    begin += rows;
  }
}

/// The product of int8's codes, and what the sums must have taken off for each unit of the left
/// operand's codes.
template <typename I>
struct CodeProduct {
  using Op = typename I::Int8;
  static constexpr std::int32_t kOffset = 128;
};
template <typename I>
requires requires { typename I::SignedInt8; }
struct CodeProduct<I> {
  using Op = typename I::SignedInt8;
  static constexpr std::int32_t kOffset = 0;
};

/// Calls run(op, source, then) with the types that a bank's product asks for.
/// Packed weights: `panel` and `following` lie in packed memory.
template <typename I, typename Run>
MOEKIT_INLINE void with_packed(ProductKind kind, const char* panel, const char* following,
                               std::int64_t group_steps, const Run& run) {
  switch (kind) {
    case ProductKind::kF32:
      return run(typename I::F32{}, PackedSource{panel}, PackedSource{following});
    case ProductKind::kBf16:
      return run(typename I::Bf16{}, PackedSource{panel}, PackedSource{following});
    case ProductKind::kInt8:
      return run(typename CodeProduct<I>::Op{}, PackedSource{panel}, PackedSource{following});
    case ProductKind::kInt4:
      return run(typename I::Int8{}, Int4Source<I>{panel, group_steps},
                 Int4Source<I>{following, group_steps});
    case ProductKind::kTernary:
      return run(typename I::Int8{}, TernarySource<I>{panel}, TernarySource<I>{following});
  }
}

/// Turns the sums of a row into values: takes offsets off, applies scales; in place.
template <typename I>
MOEKIT_INLINE void scale_sums(const BankView& bank, const LeftRows& left, std::int64_t row,
                              const float* column_scale, float* sums) {
  using F = typename I::Float;
  if (bank.product == ProductKind::kF32 || bank.product == ProductKind::kBf16) return;
  const std::int64_t from = left.index == nullptr ? row : left.index[row];
  const float scale = left.scale[from];
  if (bank.product == ProductKind::kInt4) {
    for (std::int64_t c = 0; c < kPanelColumns; c += I::kLanes) {
      store(sums + c, load<F>(sums + c) * scale);
    }
    return;
  }
  const std::int32_t offset =
      left.sums[from] * (bank.product == ProductKind::kTernary ? 1 : CodeProduct<I>::kOffset);
  for (std::int64_t c = 0; c < kPanelColumns; c += I::kLanes) {
    const auto exact = load<typename I::Int>(sums + c) - offset;
    store(sums + c, to_float<I>(exact) * (load<F>(column_scale + c) * scale));
  }
}

}  // namespace
}  // namespace moekit::kernels
