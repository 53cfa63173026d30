// The products of a block of weights on matrix tiles, over a struct `Tiles` of the instructions:
// those of Intel AMX (isa_avx512_amx.h), or an emulation of them in the tests.
//
// A panel is a right operand as it lies: 16 steps of 16 columns, in rows 256 bytes apart, are one
// tile of weights. A tile of a left operand is up to 16 of its rows by 64 bytes. Two by two tiles
// of sums (32 rows by 32 columns) take 4 loads to 4 products, a product as long as two loads; of 16
// rows or fewer there is one row of four. A panel's last steps, where they fill no tile, are copied
// among zeros on both sides, so that one configuration does for a whole panel.
#pragma once

#include <cstdint>
#include <cstring>

#include "moekit/kernels/ffn/tile_impl.h"

namespace moekit::kernels {
namespace {

constexpr std::int64_t kMatrixRows = 16;   // the most that a tile has
constexpr std::int64_t kMatrixBytes = 64;  // of a row: 16 steps, or 16 columns of sums
constexpr std::int64_t kMatrixTile = kMatrixRows * kMatrixBytes;
constexpr std::int64_t kChunk = kMatrixBytes / 4;                  // steps that a product takes
constexpr std::int64_t kChunks = kBlockSteps / kChunk;             // of a block
constexpr std::int64_t kPanelTiles = kPanelColumns / kMatrixRows;  // side by side

/// Whether a product has tiles: float has none.
template <typename Op>
constexpr bool kOnTiles = requires {
  typename Op::Tiles;
};

/// The operand of LDTILECFG. Tiles 0 to 3 are sums, 4 and 5 left operands, 6 and 7 weights.
/// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, vol. 1, "Programming with
/// Intel AMX".
struct alignas(64) TileConfig {
  std::uint8_t palette;
  std::uint8_t start_row;
  std::uint8_t reserved[14];
  std::uint16_t row_bytes[16];  ///< those beyond the eighth must be 0, in `rows` too
  std::uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

/// Tiles of `height` rows of a left operand and as many of sums.
MOEKIT_INLINE TileConfig tile_config(std::int64_t height) {
  TileConfig config{};
  config.palette = 1;
  for (int t = 0; t < 8; ++t) {
    config.row_bytes[t] = kMatrixBytes;
    config.rows[t] = static_cast<std::uint8_t>(t < 6 ? height : kChunk);
  }
  return config;
}

/// Rows of a tile: those of a block are split evenly, so that fewer are missing in the last tile
/// than there are tiles.
MOEKIT_INLINE std::int64_t tile_height(std::int64_t rows) {
  return ceil_div(rows, ceil_div(rows, kMatrixRows));
}

/// Up to 16 rows of a left operand for the steps of a block. Where they lie apart by one stride
/// they are loaded from there; others, and what does not fill a tile, are brought together.
template <typename I>
struct LeftTile {
  const char* from[kMatrixRows];          ///< null beyond the last row: zeros
  const std::int32_t* sums[kMatrixRows];  ///< int4: of the codes, by group
  std::int64_t rows;
  std::int64_t height;  ///< rows and those of zeros
  std::int64_t stride;  ///< between rows, 0: brought together
  std::int64_t steps;
  char* copy;  ///< [chunk][height, 64 bytes]

  MOEKIT_INLINE bool in_place(std::int64_t chunk) const {
    return stride != 0 && (chunk + 1) * kChunk <= steps;
  }
  /// Not inlined: a call is short beside the products of a chunk, and there are many places.
  __attribute__((noinline)) void bring(std::int64_t chunk) const {
    if (chunk * kChunk >= steps || in_place(chunk)) return;
    using Line = typename I::Int;
    char* to = copy + chunk * height * kMatrixBytes;
    const std::int64_t bytes = min_of(kMatrixBytes, (steps - chunk * kChunk) * 4);
    for (std::int64_t r = 0; r < height; ++r, to += kMatrixBytes) {
      Line line{};
      if (from[r] != nullptr && bytes == kMatrixBytes) {
        line = load<Line>(from[r] + chunk * kMatrixBytes);
      } else if (from[r] != nullptr) {
        std::memcpy(&line, from[r] + chunk * kMatrixBytes, static_cast<std::size_t>(bytes));
      }
      store(to, line);
    }
  }
  template <typename Tiles, int t>
  MOEKIT_INLINE void load_tile(std::int64_t chunk) const {
    if (in_place(chunk)) {
      Tiles::template load<t>(from[0] + chunk * kMatrixBytes, stride);
    } else {
      Tiles::template load<t>(copy + chunk * height * kMatrixBytes, kMatrixBytes);
    }
  }
};

/// Weights of a block; those of the last chunk, where it is not full, lie apart among zeros.
struct RightTiles {
  const char* block;
  std::int64_t stride;
  std::int64_t steps;
  const char* last;

  template <typename Tiles, int t>
  MOEKIT_INLINE void load_tile(std::int64_t chunk, std::int64_t part) const {
    if ((chunk + 1) * kChunk <= steps) {
      Tiles::template load<t>(block + chunk * kChunk * stride + part * kMatrixBytes, stride);
    } else {
      Tiles::template load<t>(last + part * kMatrixBytes, kStepBytes);
    }
  }
};

/// Copies the steps that fill no chunk of their own. @param to  [16, 256 bytes]
MOEKIT_INLINE RightTiles right_tiles(const char* block, std::int64_t stride, std::int64_t steps,
                                     char* to) {
  const std::int64_t full = steps / kChunk * kChunk;
  if (full < steps) {
    for (std::int64_t s = 0; s < kChunk; ++s) {
      if (full + s < steps) {
        std::memcpy(to + s * kStepBytes, block + (full + s) * stride, kStepBytes);
      } else {
        std::memset(to + s * kStepBytes, 0, kStepBytes);
      }
    }
  }
  return {block, stride, steps, to};
}

/// Adds a group's product, less its offset, times its scales to the float sums of one tile.
/// @param product  [height, 16 columns] int32
template <typename I>
MOEKIT_INLINE void add_group(const char* product, const float* scales,
                             const std::int32_t* const* sums, std::int64_t group, std::int64_t rows,
                             char* c, bool begins) {
  using F = typename I::Float;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto offset = broadcast<I>(-8 * sums[r][group]);
    for (std::int64_t l = 0; l < kMatrixRows; l += I::kLanes) {
      const auto exact = load<typename I::Int>(product + r * kMatrixBytes + 4 * l) + offset;
      const F scaled = to_float<I>(exact) * load<F>(scales + l);
      char* at = c + r * kStepBytes + 4 * l;
      store(at, begins ? scaled : load<F>(at) + scaled);
    }
  }
}

/// What tiles of int4 need besides.
struct TileGroups {
  const float* scales;  ///< [group][64]
  std::int64_t steps;   ///< of a group, a multiple of 16
  char* product;        ///< [16, 64 bytes] for a group's sums
};

/// Sums over a block's steps of `tall` tiles of rows x panel, added to `c` (or written where
/// `first`): [tall * height, 64]. `asked` lines of the next block are fetched with each chunk.
template <typename I, typename Op, int tall, bool grouped>
MOEKIT_INLINE void tile_products(const LeftTile<I>* left, const RightTiles& right, char* c,
                                 bool first, std::int64_t asked, Prefetch& prefetch,
                                 const TileGroups& groups) {
  using Tiles = typename Op::Tiles;
  constexpr int wide = 4 / tall;
  // So far ahead are rows brought together: a load of a tile does not get what a store still holds.
  constexpr std::int64_t kAhead = 4;
  const std::int64_t chunks = ceil_div(right.steps, kChunk);
  const std::int64_t length = grouped ? groups.steps / kChunk : chunks;
  Prefetch lines = prefetch;
  for (std::int64_t k = 0; k < kAhead; ++k) {
    each<tall>([&](auto r) MOEKIT_LAMBDA { left[r].bring(k); });
  }
  for (std::int64_t part = 0; part < kPanelTiles; part += wide) {
    const auto at = [&](auto i) MOEKIT_LAMBDA {
      return c + (i / wide) * left[0].height * kStepBytes + (part + i % wide) * kMatrixBytes;
    };
    for (std::int64_t begin = 0; begin < chunks; begin += length) {
      each<4>([&](auto i) MOEKIT_LAMBDA {
        if (grouped || first) {
          Tiles::template zero<i>();
        } else {
          Tiles::template load<i>(at(i), kStepBytes);
        }
      });
      for (std::int64_t k = begin; k < begin + length; ++k) {
        if (part == 0) each<tall>([&](auto r) MOEKIT_LAMBDA { left[r].bring(k + kAhead); });
        each<tall>([&](auto r) MOEKIT_LAMBDA { left[r].template load_tile<Tiles, 4 + r>(k); });
        each<wide>([&](auto w) MOEKIT_LAMBDA {
          constexpr int weights = 6 + w % 2;
          right.template load_tile<Tiles, weights>(k, part + w);
          each<tall>([&](auto r)
                         MOEKIT_LAMBDA { Op::template tile_dot<r * wide + w, 4 + r, weights>(); });
        });
        for (std::int64_t n = 0; n < asked && lines.next < lines.end; ++n) lines.one();
      }
      each<4>([&](auto i) MOEKIT_LAMBDA {
        if constexpr (grouped) {
          constexpr int r = i / wide;
          const std::int64_t g = begin / length;
          Tiles::template store<i>(groups.product, kMatrixBytes);
          const float* scales = groups.scales + g * kPanelColumns + (part + i % wide) * kMatrixRows;
          add_group<I>(groups.product, scales, left[r].sums, g, left[r].rows, at(i),
                       first && begin == 0);
        } else {
          Tiles::template store<i>(at(i), kStepBytes);
        }
      });
    }
  }
  prefetch.next = lines.next;
}

/// Rows [first, first + rows) of a left operand for steps [k, k + n).
template <typename I, bool grouped>
MOEKIT_INLINE void set_left(LeftTile<I>& tile, const LeftRows& left, std::int64_t first,
                            std::int64_t rows, std::int64_t height, std::int64_t k, std::int64_t n,
                            std::int64_t group_steps) {
  tile.rows = rows;
  tile.height = height;
  tile.steps = n;
  bool even = rows == height && height > 1;
  for (std::int64_t r = 0; r < height; ++r) {
    tile.from[r] = nullptr;
    if (r >= rows) continue;
    const std::int64_t from = left.index == nullptr ? first + r : left.index[first + r];
    tile.from[r] = left.data + from * left.row_bytes + 4 * k;
    if constexpr (grouped) tile.sums[r] = left.sums + from * left.groups + k / group_steps;
    if (r > 1) even = even && tile.from[r] - tile.from[r - 1] == tile.from[1] - tile.from[0];
  }
  tile.stride = even ? tile.from[1] - tile.from[0] : 0;
}

/// Adds the products of `rows` rows of a left operand and steps [k, k + n) of a panel, `block`, to
/// scratch.sums; rows of zeros in the last tile have sums there too. Tiles are configured for
/// tile_height(rows). @param group_steps  of int4
template <typename I, typename Op, bool grouped>
__attribute__((noinline)) void run_on_tiles(const LeftRows& left, std::int64_t first_row,
                                            std::int64_t rows, const char* block,
                                            std::int64_t b_stride, std::int64_t k, std::int64_t n,
                                            Prefetch& lines, const ThreadScratch& scratch,
                                            std::int64_t group_steps) {
  const std::int64_t height = tile_height(rows);
  const std::int64_t tiles = ceil_div(rows, height);
  char* const last = scratch.matrix + 2 * kChunks * kMatrixTile;
  const RightTiles right = right_tiles(block, b_stride, n, last);
  const TileGroups groups{scratch.scales, group_steps, last + kChunk * kStepBytes};
  // A pair of tiles passes the block twice, one alone once.
  const std::int64_t asked = ceil_div(lines.end - lines.next, tiles * ceil_div(n, kChunk));
  for (std::int64_t t = 0; t < tiles; t += 2) {
    LeftTile<I> of[2];
    const std::int64_t count = min_of(2, tiles - t);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t begin = (t + i) * height;
      set_left<I, grouped>(of[i], left, first_row + begin, min_of(height, rows - begin), height, k,
                           n, group_steps);
      of[i].copy = scratch.matrix + i * kChunks * kMatrixTile;
    }
    char* c = reinterpret_cast<char*>(scratch.sums + t * height * kPanelColumns);
    if (count == 2) {
      tile_products<I, Op, 2, grouped>(of, right, c, k == 0, asked, lines, groups);
    } else {
      tile_products<I, Op, 1, grouped>(of, right, c, k == 0, asked, lines, groups);
    }
  }
}

/// `count` products of whole tiles, in registers alone; of the four tiles of sums each in turn.
template <typename Op>
void spin_tiles(std::int64_t count) {
  using Tiles = typename Op::Tiles;
  Tiles::configure(tile_config(kMatrixRows));
  each<8>([&](auto t) MOEKIT_LAMBDA { Tiles::template zero<t>(); });
  for (std::int64_t n = 0; n < count; n += 4) {
    each<4>([&](auto i) MOEKIT_LAMBDA { Op::template tile_dot<i, 4 + i / 2, 6 + i % 2>(); });
  }
  Tiles::release();
}

}  // namespace
}  // namespace moekit::kernels
