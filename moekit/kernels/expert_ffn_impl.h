// The kernels of expert_ffn_kernels.h, written once over a struct `I` of one instruction set's
// vectors and the few instructions the compiler's own vector types do not reach. Each of
// expert_ffn_avx2.cpp, _avx512.cpp and _avx512_vnni.cpp defines that struct and includes this file.
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
#include <cstring>

#include "moekit/kernels/expert_ffn_kernels.h"

namespace moekit::kernels {
namespace {

#define MOEKIT_INLINE inline __attribute__((always_inline))
#define MOEKIT_LAMBDA __attribute__((always_inline))

template <int... i>
struct Indices {};
template <int n, int... i>
struct MakeIndices : MakeIndices<n - 1, n - 1, i...> {};
template <int... i>
struct MakeIndices<0, i...> {
  using type = Indices<i...>;
};
template <int value_>
struct Index {
  constexpr operator int() const { return value_; }
};
template <typename Body, int... i>
MOEKIT_INLINE void each(const Body& body, Indices<i...>) {
  (body(Index<i>{}), ...);
}
/// body(0) .. body(n - 1) with constant arguments: an array indexed by them stays in registers,
/// which GCC does not manage for a loop that it unrolls late.
template <int n, typename Body>
MOEKIT_INLINE void each(const Body& body) {
  each(body, typename MakeIndices<n>::type{});
}

MOEKIT_INLINE std::int64_t min_of(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
MOEKIT_INLINE std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

constexpr std::int64_t kStepBytes = 4 * kPanelColumns;
constexpr std::int64_t kHalfPanel = kPanelColumns / 2;

// ---- vectors --------------------------------------------------------------------------------

template <typename V>
MOEKIT_INLINE V load(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof(V));
  return v;
}
template <typename V>
MOEKIT_INLINE void store(void* to, const V& v) {
  std::memcpy(to, &v, sizeof(V));
}
template <typename I>
MOEKIT_INLINE typename I::Float broadcast(float value) {
  return value - typename I::Float{};
}
template <typename I>
MOEKIT_INLINE typename I::Int broadcast(std::int32_t value) {
  return value - typename I::Int{};
}
template <typename I>
MOEKIT_INLINE typename I::Float to_float(const typename I::Int& v) {
  return __builtin_convertvector(v, typename I::Float);
}
template <typename I>
MOEKIT_INLINE typename I::Half round_to_bf16(const typename I::Float& v) {
  using U = typename I::Unsigned;
  const U bits = (U)v;
  return __builtin_convertvector((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16, typename I::Half);
}

template <typename I>
MOEKIT_INLINE float horizontal_sum(const typename I::Float& v) {
  float sum = 0;
  for (int l = 0; l < I::kLanes; ++l) sum += v[l];
  return sum;
}

/// e^x to 2 ulp, 0 below -87, e^88 above 88. Cephes' expf polynomial.
template <typename I>
MOEKIT_INLINE typename I::Float exp_of(typename I::Float x) {
  using F = typename I::Float;
  const F high = broadcast<I>(88.0F);
  const F low = broadcast<I>(-87.0F);
  x = x > high ? high : x;
  x = x < low ? low : x;
  const F magic = broadcast<I>(12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer
  const F n = (x * 1.44269504088896341F + magic) - magic;
  const F r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  F p = broadcast<I>(1.9875691500e-4F);
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const auto exponent = (__builtin_convertvector(n, typename I::Int) + 127) << 23;
  return p * (F)exponent;
}

/// Phi(x), the normal distribution, and its density. erf by Abramowitz and Stegun 7.1.26: absolute
/// error 1.5e-7.
template <typename I>
MOEKIT_INLINE void normal(const typename I::Float& x, typename I::Float& phi,
                          typename I::Float& density) {
  using F = typename I::Float;
  const F zero{};
  const F z = x * 0.70710678118654752F;
  const F magnitude = z < zero ? -z : z;
  const F t = 1.0F / (1.0F + 0.3275911F * magnitude);
  const F e = exp_of<I>(-z * z);
  F p = 1.061405429F * t - 1.453152027F;
  p = p * t + 1.421413741F;
  p = p * t - 0.284496736F;
  p = p * t + 0.254829592F;
  const F tail = 0.5F * p * t * e;  // 1 - Phi(|x|)
  phi = x < zero ? tail : 1.0F - tail;
  density = 0.39894228040143268F * e;
}

/// act(x) and its derivative; the compiler drops what is not used.
template <typename I>
MOEKIT_INLINE void activate(FfnActivation activation, const typename I::Float& x,
                            typename I::Float& value, typename I::Float& derivative) {
  using F = typename I::Float;
  const F zero{};
  value = derivative = zero;
  switch (activation) {
    case FfnActivation::kRelu:
    case FfnActivation::kReglu:
      value = x < zero ? zero : x;  // NaN stays NaN
      derivative = x > zero ? broadcast<I>(1.0F) : zero;
      break;
    case FfnActivation::kSquaredRelu: {
      const F positive = x < zero ? zero : x;
      value = positive * positive;
      derivative = 2.0F * positive;
      break;
    }
    case FfnActivation::kGelu:
    case FfnActivation::kGeglu: {
      F phi, density;
      normal<I>(x, phi, density);
      value = x * phi;
      derivative = phi + x * density;
      break;
    }
    case FfnActivation::kSwiglu: {
      const F sigmoid = 1.0F / (1.0F + exp_of<I>(-x));
      value = x * sigmoid;
      derivative = sigmoid * (1.0F + x * (1.0F - sigmoid));
      break;
    }
  }
}

// ---- prefetching ----------------------------------------------------------------------------

/// The lines of the next block: rows of 2^shift lines, `stride` bytes apart, those from `split` on
/// `jump` bytes further. They are asked for one after the other while this block is computed; in
/// bursts the memory could not keep up.
struct Prefetch {
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
};

MOEKIT_INLINE Prefetch contiguous_lines(const char* base, std::int64_t bytes) {
  return {base, 0, 62, 0, base == nullptr ? 0 : ceil_div(bytes, 64)};
}

/// Lines fetched a step: 0, 1, 2, 4 or this, one in two steps.
constexpr int kEverySecond = -2;

// ---- tiles ----------------------------------------------------------------------------------

/// Sums over `steps` of rows x panel, added to `c` [rows, 64] (or written where `first`).
/// a[r] points at row r; its steps lie `a_step` words apart, those of the panel `b_stride` bytes.
template <typename I, typename Op, int rows, int a_step, int prefetches>
void tile(const std::uint32_t* const* a, const char* b, std::int64_t b_stride, std::int64_t steps,
          char* c, bool first, Prefetch& prefetch) {
  using Acc = typename Op::Acc;
  constexpr int vectors = I::kTileVectors;
  constexpr int width = vectors * I::kLanes * 4;  // bytes of a step
  Prefetch lines = prefetch;
  for (std::int64_t part = 0; part < kStepBytes; part += width) {
    Acc acc[rows * vectors];
    each<rows * vectors>([&](auto i) MOEKIT_LAMBDA {
      acc[i] = first ? Acc{}
                     : load<Acc>(c + (i / vectors) * kStepBytes + part +
                                 (i % vectors) * I::kLanes * 4);
    });
    const std::uint32_t* from[rows];
    each<rows>([&](auto r) MOEKIT_LAMBDA { from[r] = a[r]; });
    const char* weights = b + part;
    for (std::int64_t k = 0; k < steps; ++k, weights += b_stride) {
      typename Op::Right right[vectors];
      each<vectors>([&](auto v) MOEKIT_LAMBDA { right[v] = Op::right(weights + v * I::kLanes * 4); });
      if constexpr (prefetches == kEverySecond) {
        if ((k & 1) == 0) lines.one();
      } else {
        each<prefetches>([&](auto) MOEKIT_LAMBDA { lines.one(); });
      }
      each<rows>([&](auto r) MOEKIT_LAMBDA {
        const typename Op::Left left = Op::left(from[r][k * a_step]);
        each<vectors>([&](auto v) MOEKIT_LAMBDA {
          acc[r * vectors + v] = Op::dot(acc[r * vectors + v], left, right[v]);
        });
      });
    }
    each<rows * vectors>([&](auto i) MOEKIT_LAMBDA {
      store(c + (i / vectors) * kStepBytes + part + (i % vectors) * I::kLanes * 4, acc[i]);
    });
  }
  prefetch.next = lines.next;
}

/// As `tile` for the left operand of pack_left(), straight to rows `stride` bytes apart and past the
/// caches: a gradient is not read again soon, and a line is not fetched first. 64-byte aligned.
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
      each<vectors>([&](auto v) MOEKIT_LAMBDA { right[v] = Op::right(weights + v * I::kLanes * 4); });
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
      each<rows * vectors>([&](auto i) MOEKIT_LAMBDA {
        acc[i] = broadcast<I>(-8 * groups.sums[i / vectors][g]);
      });
      for (std::int64_t k = 0; k < groups.steps; ++k, weights += kStepBytes) {
        typename Op::Right right[vectors];
        each<vectors>(
            [&](auto v) MOEKIT_LAMBDA { right[v] = Op::right(weights + v * I::kLanes * 4); });
        if constexpr (prefetches == kEverySecond) {
          if ((k & 1) == 0) lines.one();
        } else {
          each<prefetches>([&](auto) MOEKIT_LAMBDA { lines.one(); });
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

/// The same out of packed codes, two steps (int4) or four (ternary) in 256 bytes, for a panel that
/// only one tile reads: nothing is written down decoded. Without groups c is int32, as `tile`.
template <typename I, int rows, int packed>
void packed_tile(const std::uint32_t* const* a, const char* codes, std::int64_t steps, char* c,
                 bool first, Prefetch& prefetch, const std::int32_t* const* sums,
                 std::int64_t group_steps) {
  using Op = typename I::Int8;
  using Acc = typename Op::Acc;
  using U = typename I::Unsigned;
  constexpr int vectors = I::kTileVectors;
  constexpr int width = vectors * I::kLanes * 4;
  constexpr std::uint32_t mask = packed == 2 ? 0x0f0f0f0fU : 0x03030303U;
  const std::int64_t length = group_steps > 0 ? group_steps : steps;
  Prefetch lines = prefetch;
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
        if (group_steps > 0) {
          acc[i] = broadcast<I>(-8 * sums[i / vectors][begin / length]);
        } else {
          acc[i] = first ? Acc{} : load<Acc>(at(i));
        }
      });
      if (group_steps > 0) {
        weights += 128;
        each<2>([&](auto) MOEKIT_LAMBDA { lines.one(); });
      }
      for (std::int64_t k = 0; k < length; k += packed, weights += kStepBytes) {
        U code[vectors];
        each<vectors>([&](auto v) MOEKIT_LAMBDA {
          code[v] = load<U>(weights + part + v * I::kLanes * 4);
        });
        each<4>([&](auto) MOEKIT_LAMBDA { lines.one(); });
        each<packed>([&](auto j) MOEKIT_LAMBDA {
          each<rows>([&](auto r) MOEKIT_LAMBDA {
            const typename Op::Left left = Op::left(from[r][k + j]);
            each<vectors>([&](auto v) MOEKIT_LAMBDA {
              acc[r * vectors + v] =
                  Op::dot(acc[r * vectors + v], left,
                          Op::right((code[v] >> (j * (8 / packed))) & mask));
            });
          });
        });
      }
      each<rows>([&](auto r) MOEKIT_LAMBDA { from[r] += length; });
      each<rows * vectors>([&](auto i) MOEKIT_LAMBDA {
        if (group_steps > 0) {
          const auto half = load<typename I::Half>(scales + (i % vectors) * I::kLanes * 2);
          const auto scale = (typename I::Float)(__builtin_convertvector(half, U) << 16);
          const auto product = to_float<I>(acc[i]) * scale;
          store(at(i), first && begin == 0 ? product
                                           : load<typename I::Float>(at(i)) + product);
        } else {
          store(at(i), acc[i]);
        }
      });
    }
  }
  prefetch.next = lines.next;
}

template <typename I, typename Op, int a_step, int prefetches, typename... More>
MOEKIT_INLINE void tile_rows(int rows, const std::uint32_t* const* a, const char* b,
                             std::int64_t b_stride, std::int64_t steps, char* c, bool first, Prefetch& prefetch,
                             const More&... more) {
  const auto run = [&](auto r) MOEKIT_LAMBDA {
    if constexpr (sizeof...(More) == 0) {
      tile<I, Op, r + 1, a_step, prefetches>(a, b, b_stride, steps, c, first, prefetch);
    } else {
      grouped_tile<I, r + 1, prefetches>(a, b, steps, c, first, prefetch, more...);
    }
  };
  each<kTileRows>([&](auto r) MOEKIT_LAMBDA {
    if (rows == r + 1) run(r);
  });
}

template <typename I, typename Op, int a_step, typename... More>
MOEKIT_INLINE void tile_any(int rows, int prefetches, const std::uint32_t* const* a, const char* b,
                            std::int64_t b_stride, std::int64_t steps, char* c, bool first,
                            Prefetch& prefetch, const More&... more) {
  switch (prefetch.next < prefetch.end ? prefetches : 0) {
    case kEverySecond:
      return tile_rows<I, Op, a_step, kEverySecond>(rows, a, b, b_stride, steps, c, first, prefetch, more...);
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

// ---- where blocks of weights come from --------------------------------------------------------
// block(k, steps): the weights of those steps as [step][256 bytes]. lines(k, steps): what to fetch
// ahead for that block.

/// Packed weights that are used as they lie.
struct PackedSource {
  static constexpr int kPacked = 1;
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
  static constexpr int kPacked = 4;  // steps in 256 bytes
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
  static constexpr int kPacked = 2;  // steps in 256 bytes
  MOEKIT_INLINE const char* packed(std::int64_t k) const { return panel + k / group_steps * group_bytes(); }
  static MOEKIT_INLINE std::int64_t step_stride() { return kStepBytes; }
  const char* panel;
  std::int64_t group_steps;
  MOEKIT_INLINE std::int64_t group_bytes() const { return 128 + group_steps * kStepBytes / 2; }
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
      from += 128;
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
    return contiguous_lines(packed(k),
                            steps / group_steps * group_bytes());
  }
};

/// Writes step `k` of a block: inputs lo and hi (the second of a pair, null beyond the last) of 64
/// columns, from rows that lie along the columns.
template <typename I, bool bf16>
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
    if constexpr (!bf16) {
      store(to + 4 * c, low);
    } else {
      const F high = part(hi, c);
      store(to + 4 * c,
            __builtin_convertvector(round_to_bf16<I>(low), U) |
                (__builtin_convertvector(round_to_bf16<I>(high), U) << 16));
    }
  }
}

/// Rows of a matrix [inputs, columns] as they lie: no transposing.
template <typename I, bool bf16>
struct RowSource {
  static constexpr int kPacked = 1;
  static MOEKIT_INLINE const char* packed(std::int64_t) { return nullptr; }
  const float* matrix;  ///< at the panel's first column
  std::int64_t stride;
  std::int64_t inputs;
  std::int64_t columns;  ///< valid ones, 1..64
  /// Rows so near that a block of them fits the caches are used where they lie.
  MOEKIT_INLINE bool near() const { return !bf16 && columns == kPanelColumns && stride <= 512; }
  MOEKIT_INLINE std::int64_t step_stride() const {
    return near() ? stride * 4 : kStepBytes;
  }
  MOEKIT_INLINE const char* block(std::int64_t k, std::int64_t steps,
                                  const ThreadScratch& scratch) const {
    if (near()) return reinterpret_cast<const char*>(matrix + k * stride);
    constexpr std::int64_t per = bf16 ? 2 : 1;
    for (std::int64_t s = 0; s < steps; ++s) {
      const std::int64_t input = (k + s) * per;
      const float* row = matrix + input * stride;
      write_step<I, bf16>(scratch.block + s * kStepBytes, row,
                          input + 1 < inputs ? row + stride : nullptr, columns);
    }
    return scratch.block;
  }
  MOEKIT_INLINE Prefetch lines(std::int64_t k, std::int64_t steps) const {
    constexpr std::int64_t per = bf16 ? 2 : 1;
    if (matrix == nullptr) return {};
    const std::int64_t rows = min_of(steps * per, inputs - k * per);
    return {reinterpret_cast<const char*>(matrix + k * per * stride), stride * 4, 2, 0, 4 * rows};
  }
};

/// Rows of a matrix [columns, inputs]: transposed in squares of one vector.
template <typename I, bool bf16>
struct TransposedSource {
  static constexpr int kPacked = 1;
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
    constexpr std::int64_t per = bf16 ? 2 : 1;
    if (first == nullptr) return {};
    int shift = 0;
    while ((std::int64_t{16} << shift) < steps * per) ++shift;
    const std::int64_t row_bytes = inputs * 4;
    const auto* base = reinterpret_cast<const char*>(first + k * per);
    if (second == nullptr) return {base, row_bytes, shift, 0, valid << shift};
    const auto* other = reinterpret_cast<const char*>(second + k * per);
    return {base,  row_bytes, shift, 0, 2 * valid << shift,
            valid, (other - base) - valid * row_bytes};
  }

 private:
  static constexpr std::int64_t kLanes = I::kLanes;
  static constexpr std::int64_t kPer = bf16 ? 2 : 1;

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
                   if constexpr (!bf16) {
                     store(out, a);
                     store(out + kStepBytes, b);
                     store(out + 2 * kStepBytes, c);
                     store(out + 3 * kStepBytes, d);
                   } else {
                     store(out, pair(a, b));
                     store(out + kStepBytes, pair(c, d));
                   }
                 });
  }

  static MOEKIT_INLINE typename I::Unsigned pair(const typename I::Float& low,
                                                 const typename I::Float& high) {
    using U = typename I::Unsigned;
    return __builtin_convertvector(round_to_bf16<I>(low), U) |
           (__builtin_convertvector(round_to_bf16<I>(high), U) << 16);
  }
};

// ---- one panel --------------------------------------------------------------------------------

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
    // Few rows: the block stays in the first-level cache and the fetching ahead near.
    const bool as_packed = Source::kPacked > 1 && tiles == 1;
    const std::int64_t block_steps = as_packed ? 128 : tiles <= 2 ? 64 : kBlockSteps;
    const int prefetches = tiles == 1 ? 4 : tiles <= 3 ? 2 : tiles < 8 ? 1 : kEverySecond;
    for (std::int64_t k = 0; k < steps; k += block_steps) {
      const std::int64_t n = min_of(block_steps, steps - k);
      const char* block = as_packed ? source.packed(k) : source.block(k, n, scratch);
      const std::int64_t b_stride = source.step_stride();
      Prefetch lines;
      if (k + n < steps) {
        lines = source.lines(k + n, min_of(block_steps, steps - k - n));
      } else if (rb + 1 < row_blocks) {
        lines = source.lines(0, min_of(block_steps, steps));
      } else {
        lines = then.lines(0, min_of(block_steps, then_steps));
      }
      std::int64_t row = 0;
      for (int t = 0; t < tiles; ++t) {
        const auto of_tile = static_cast<int>((rows - row + tiles - t - 1) / (tiles - t));
        const std::uint32_t* a[kTileRows];
        const std::int32_t* sums[kTileRows];
        for (int r = 0; r < of_tile; ++r) {
          const std::int64_t at = first_row + begin + row + r;
          const std::int64_t from = left.index == nullptr ? at : left.index[at];
          a[r] = reinterpret_cast<const std::uint32_t*>(left.data + from * left.row_bytes) + k;
          if (group_steps > 0) sums[r] = left.sums + from * left.groups + k / group_steps;
        }
        char* c = reinterpret_cast<char*>(scratch.sums + row * kPanelColumns);
        if constexpr (Source::kPacked > 1) {
          if (as_packed) {
            each<kTileRows>([&](auto r) MOEKIT_LAMBDA {
              if (of_tile == r + 1) {
                packed_tile<I, r + 1, Source::kPacked>(a, block, n, c, k == 0, lines, sums,
                                                       group_steps);
              }
            });
            row += of_tile;
            continue;
          }
        }
        if (group_steps > 0) {
          const Groups groups{scratch.scales, sums, group_steps};
          tile_any<I, typename I::Int8, 1>(of_tile, prefetches, a, block, b_stride, n, c, k == 0,
                                           lines, groups);
        } else {
          tile_any<I, Op, 1>(of_tile, prefetches, a, block, b_stride, n, c, k == 0,
                             lines);
        }
        row += of_tile;
      }
    }
    for (std::int64_t row = 0; row < rows; ++row) {
      finish(begin + row, scratch.sums + row * kPanelColumns);
    }
    begin += rows;
  }
}

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
      return run(typename I::Int8{}, PackedSource{panel}, PackedSource{following});
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
      left.sums[from] * (bank.product == ProductKind::kTernary ? 1 : 128);
  for (std::int64_t c = 0; c < kPanelColumns; c += I::kLanes) {
    const auto exact = load<typename I::Int>(sums + c) - offset;
    store(sums + c, to_float<I>(exact) * (load<F>(column_scale + c) * scale));
  }
}

// ---- forward ----------------------------------------------------------------------------------

/// Hidden values of one row of an up panel.
template <typename I>
MOEKIT_INLINE void finish_up(const BankView& bank, std::int64_t row, std::int64_t panel,
                             const float* bias, const float* sums) {
  using F = typename I::Float;
  const std::int64_t width = bank.gated ? kHalfPanel : kPanelColumns;
  const std::int64_t at = row * bank.hidden_stride + panel * width;
  for (std::int64_t c = 0; c < width; c += I::kLanes) {
    F z = load<F>(sums + c);
    if (bias != nullptr) z += load<F>(bias + c);
    F value, unused;
    activate<I>(bank.activation, z, value, unused);
    if (bank.gated) {
      F up = load<F>(sums + kHalfPanel + c);
      if (bias != nullptr) up += load<F>(bias + kHalfPanel + c);
      value *= up;
      if (bank.kept_gate != nullptr) {
        store(bank.kept_gate + at + c, z);
        store(bank.kept_up + at + c, up);
      }
    } else if (bank.kept_up != nullptr) {
      store(bank.kept_up + at + c, z);
    }
    if (bank.hidden != nullptr) store(bank.hidden + at + c, value);
    if (bank.hidden16 != nullptr) store(bank.hidden16 + at + c, round_to_bf16<I>(value));
  }
}

/// 64 values of a bias [E, columns] (gated: 32 of each of two) as a panel's.
MOEKIT_INLINE const float* bias_of_panel(const float* first, const float* second,
                                         std::int64_t columns, std::int64_t panel, float* buffer) {
  if (first == nullptr) return nullptr;
  const std::int64_t width = second == nullptr ? kPanelColumns : kHalfPanel;
  const std::int64_t begin = panel * width;
  const std::int64_t valid = min_of(width, columns - begin);
  std::memset(buffer, 0, kStepBytes);
  std::memcpy(buffer, first + begin, static_cast<std::size_t>(valid) * sizeof(float));
  if (second != nullptr) {
    std::memcpy(buffer + width, second + begin, static_cast<std::size_t>(valid) * sizeof(float));
  }
  return buffer;
}

template <typename I, bool bf16>
MOEKIT_INLINE TransposedSource<I, bf16> up_source(const BankView& bank, std::int64_t expert,
                                                  std::int64_t panel) {
  const std::int64_t d = bank.hidden_size;
  const std::int64_t f = bank.intermediate_size;
  const std::int64_t width = bank.gated ? kHalfPanel : kPanelColumns;
  const std::int64_t at = (expert * f + panel * width) * d;
  const auto& p = bank.parameters;
  return {(bank.gated ? p.gate : p.up) + at, bank.gated ? p.up + at : nullptr, d,
          min_of(width, f - panel * width)};
}

template <typename I, bool bf16>
MOEKIT_INLINE TransposedSource<I, bf16> down_source(const BankView& bank, std::int64_t expert,
                                                    std::int64_t panel) {
  const std::int64_t f = bank.intermediate_size;
  const std::int64_t o = bank.output_size;
  return {bank.parameters.down + (expert * o + panel * kPanelColumns) * f, nullptr, f,
          min_of(kPanelColumns, o - panel * kPanelColumns)};
}

template <typename I>
void up(const BankView& bank, std::int64_t expert, std::int64_t begin, std::int64_t end,
        const ThreadScratch& scratch) {
  const std::int64_t first = bank.offsets[expert];
  const std::int64_t count = bank.offsets[expert + 1] - first;
  for (std::int64_t p = begin; p < end; ++p) {
    float buffer[kPanelColumns];
    const auto run = [&](auto op, const auto& source, const auto& then, const float* bias,
                         const float* scale) MOEKIT_LAMBDA {
      const auto finish = [&](std::int64_t row, float* sums) MOEKIT_LAMBDA {
        scale_sums<I>(bank, bank.tokens, first + row, scale, sums);
        finish_up<I>(bank, first + row, p, bias, sums);
      };
      run_panel<I, decltype(op)>(bank.tokens, first, count, bank.up.steps, source, then,
                                 p + 1 < end ? bank.up.steps : 0, scratch, finish,
                                 bank.group / 4);
    };
    if (bank.weights != nullptr) {
      const char* expert_data = bank.weights + expert * bank.expert_bytes;
      const char* panel = expert_data + bank.up.offset + p * bank.up.panel_bytes;
      const auto vector = [&](std::int64_t offset) MOEKIT_LAMBDA {
        return offset < 0 ? nullptr
                          : reinterpret_cast<const float*>(expert_data + offset) +
                                p * kPanelColumns;
      };
      with_packed<I>(bank.product, panel, panel + bank.up.panel_bytes, bank.group / 4,
                     [&](auto op, const auto& source, const auto& then) MOEKIT_LAMBDA {
                       run(op, source, then, vector(bank.up.bias_offset),
                           vector(bank.up.scale_offset));
                     });
    } else {
      const auto& m = bank.parameters;
      const std::int64_t f = bank.intermediate_size;
      const float* bias =
          m.up_bias == nullptr
              ? nullptr
              : bias_of_panel((bank.gated ? m.gate_bias : m.up_bias) + expert * f,
                              bank.gated ? m.up_bias + expert * f : nullptr, f, p, buffer);
      const std::int64_t next = p + 1 < end ? p + 1 : p;
      if (bank.product == ProductKind::kBf16) {
        run(typename I::Bf16{}, up_source<I, true>(bank, expert, p),
            up_source<I, true>(bank, expert, next), bias, nullptr);
      } else {
        run(typename I::F32{}, up_source<I, false>(bank, expert, p),
            up_source<I, false>(bank, expert, next), bias, nullptr);
      }
    }
  }
}

/// y[64 columns] += weight * (sums + bias).
template <typename I>
MOEKIT_INLINE void add_row(float* y, const float* sums, const float* bias, float weight,
                           std::int64_t columns) {
  using F = typename I::Float;
  if (columns == kPanelColumns) {
    for (std::int64_t c = 0; c < kPanelColumns; c += I::kLanes) {
      F value = load<F>(sums + c);
      if (bias != nullptr) value += load<F>(bias + c);
      store(y + c, load<F>(y + c) + weight * value);
    }
    return;
  }
  for (std::int64_t c = 0; c < columns; ++c) {
    y[c] += weight * (bias == nullptr ? sums[c] : sums[c] + bias[c]);
  }
}

template <typename I>
void down(const BankView& bank, float* y, std::int64_t p, const ThreadScratch& scratch) {
  const std::int64_t columns = min_of(kPanelColumns, bank.output_size - p * kPanelColumns);
  for (std::int64_t i = 0; i < bank.num_active; ++i) {
    const std::int64_t expert = bank.active[i];
    const bool last = i + 1 == bank.num_active;
    const std::int64_t following = last ? expert : bank.active[i + 1];
    const std::int64_t first = bank.offsets[expert];
    const std::int64_t count = bank.offsets[expert + 1] - first;
    float buffer[kPanelColumns];
    const auto run = [&](auto op, const auto& source, const auto& then, const float* bias,
                         const float* scale) MOEKIT_LAMBDA {
      const auto finish = [&](std::int64_t row, float* sums) MOEKIT_LAMBDA {
        scale_sums<I>(bank, bank.hidden_left, first + row, scale, sums);
        add_row<I>(y + bank.token[first + row] * bank.output_size + p * kPanelColumns, sums, bias,
                   bank.weight[first + row], columns);
      };
      run_panel<I, decltype(op)>(bank.hidden_left, first, count, bank.down.steps, source, then,
                                 last ? 0 : bank.down.steps, scratch, finish, bank.group / 4);
    };
    if (bank.weights != nullptr) {
      const char* data = bank.weights + expert * bank.expert_bytes;
      const std::int64_t at = bank.down.offset + p * bank.down.panel_bytes;
      const auto vector = [&](std::int64_t offset) MOEKIT_LAMBDA {
        return offset < 0 ? nullptr
                          : reinterpret_cast<const float*>(data + offset) + p * kPanelColumns;
      };
      with_packed<I>(bank.product, data + at, bank.weights + following * bank.expert_bytes + at,
                     bank.group / 4, [&](auto op, const auto& source, const auto& then) MOEKIT_LAMBDA {
                       run(op, source, then, vector(bank.down.bias_offset),
                           vector(bank.down.scale_offset));
                     });
    } else {
      const float* bias = bank.parameters.down_bias;
      bias = bias_of_panel(bias == nullptr ? nullptr : bias + expert * bank.output_size, nullptr,
                           bank.output_size, p, buffer);
      if (bank.product == ProductKind::kBf16) {
        run(typename I::Bf16{}, down_source<I, true>(bank, expert, p),
            down_source<I, true>(bank, following, p), bias, nullptr);
      } else {
        run(typename I::F32{}, down_source<I, false>(bank, expert, p),
            down_source<I, false>(bank, following, p), bias, nullptr);
      }
    }
  }
}

template <typename I>
void round_rows(const float* from, std::int64_t stride, std::int64_t columns, std::int64_t begin,
                std::int64_t end, std::uint16_t* to, std::int64_t to_stride) {
  using F = typename I::Float;
  for (std::int64_t r = begin; r < end; ++r) {
    const float* row = from + r * stride;
    std::uint16_t* out = to + r * to_stride;
    std::int64_t c = 0;
    for (; c + I::kLanes <= columns; c += I::kLanes) {
      store(out + c, round_to_bf16<I>(load<F>(row + c)));
    }
    F rest{};
    std::memcpy(&rest, row + c, static_cast<std::size_t>(columns - c) * sizeof(float));
    const auto half = round_to_bf16<I>(rest);
    std::memcpy(out + c, &half, static_cast<std::size_t>(columns - c) * sizeof(std::uint16_t));
    std::memset(out + columns, 0,
                static_cast<std::size_t>(to_stride - columns) * sizeof(std::uint16_t));
  }
}

template <typename I>
void quantize_rows(const float* from, std::int64_t stride, std::int64_t columns,
                   std::int64_t begin, std::int64_t end, std::int8_t* to, std::int64_t to_stride,
                   float* scale, std::int32_t* sums, std::int64_t group) {
  using F = typename I::Float;
  const std::int64_t groups = group == 0 ? 1 : to_stride / group;
  const std::int64_t group_size = group == 0 ? to_stride : group;
  for (std::int64_t r = begin; r < end; ++r) {
    const float* row = from + r * stride;
    std::int8_t* out = to + r * to_stride;
    F most{};
    std::int64_t c = 0;
    for (; c + I::kLanes <= columns; c += I::kLanes) {
      const F x = load<F>(row + c);
      const F size = x < F{} ? -x : x;
      most = size > most ? size : most;
    }
    float largest = 0;
    for (int l = 0; l < I::kLanes; ++l) largest = most[l] > largest ? most[l] : largest;
    for (; c < columns; ++c) {
      const float size = row[c] < 0 ? -row[c] : row[c];
      largest = size > largest ? size : largest;
    }
    scale[r] = largest / 127;
    // A row so small that 127 / largest overflows counts as zeros.
    const float inverse = largest > 1e-35F ? 127 / largest : 0;
    const F magic = broadcast<I>(12582912.0F);  // adding it rounds to nearest even
    c = 0;
    for (; c + I::kLanes <= columns; c += I::kLanes) {
      const F code = (load<F>(row + c) * inverse + magic) - magic;
      store(out + c, __builtin_convertvector(__builtin_convertvector(code, typename I::Int),
                                             typename I::Bytes));
    }
    for (; c < columns; ++c) {
      const float code = (row[c] * inverse + 12582912.0F) - 12582912.0F;
      out[c] = static_cast<std::int8_t>(code);
    }
    std::memset(out + columns, 0, static_cast<std::size_t>(to_stride - columns));
    for (std::int64_t g = 0; g < groups; ++g) {
      std::int32_t sum = 0;
      for (std::int64_t i = g * group_size; i < (g + 1) * group_size; ++i) sum += out[i];
      sums[r * groups + g] = sum;
    }
  }
}

// ---- backward ---------------------------------------------------------------------------------

/// Gradients of gate and up values of one panel of hidden columns: dh' = dy Wd; dh = w dh'.
template <typename I, bool bf16>
MOEKIT_INLINE void grad_hidden_as(const BackwardView& view, std::int64_t expert, std::int64_t p,
                                  const ThreadScratch& scratch) {
  using F = typename I::Float;
  const BankView& bank = view.bank;
  const std::int64_t first = bank.offsets[expert];
  const std::int64_t count = bank.offsets[expert + 1] - first;
  const std::int64_t f = bank.intermediate_size;
  const std::int64_t o = bank.output_size;
  const std::int64_t columns = min_of(kPanelColumns, f - p * kPanelColumns);
  const float* matrix = bank.parameters.down + expert * o * f + p * kPanelColumns;
  const RowSource<I, bf16> source{matrix, f, o, columns};
  const bool last = p + 1 == view.hidden_panels;
  const RowSource<I, bf16> then{last ? nullptr : matrix + kPanelColumns, f, o, columns};
  const std::int64_t steps = bf16 ? (o + 1) / 2 : o;
  // Kept values are there for whole panels of the forward pass: 32 columns where it is gated.
  const std::int64_t width = bank.gated ? kHalfPanel : kPanelColumns;
  const std::int64_t filled = ceil_div(columns, width) * width;
  using Op = typename I::template Product<bf16>;
  const auto finish = [&](std::int64_t row, const float* sums) MOEKIT_LAMBDA {
    const std::int64_t a = first + row;
    const std::int64_t at = a * bank.hidden_stride + p * kPanelColumns;
    const float weight = bank.weight[a];
    F part{};
    for (std::int64_t c = 0; c < filled; c += I::kLanes) {
      const F grad = load<F>(sums + c);
      const F scaled = grad * weight;
      F value, derivative;
      if (bank.gated) {
        const F up_value = load<F>(bank.kept_up + at + c);
        activate<I>(bank.activation, load<F>(bank.kept_gate + at + c), value, derivative);
        const F grad_gate = scaled * up_value * derivative;
        const F grad_up = scaled * value;
        store(view.grad_gate + at + c, grad_gate);
        store(view.grad_up + at + c, grad_up);
        if constexpr (bf16) {
          store(view.grad_gate16 + at + c, round_to_bf16<I>(grad_gate));
          store(view.grad_up16 + at + c, round_to_bf16<I>(grad_up));
        }
        value *= up_value;
      } else {
        activate<I>(bank.activation, load<F>(bank.kept_up + at + c), value, derivative);
        const F grad_up = scaled * derivative;
        store(view.grad_up + at + c, grad_up);
        if constexpr (bf16) store(view.grad_up16 + at + c, round_to_bf16<I>(grad_up));
      }
      part += grad * value;
      store(view.weighted_hidden + at + c, value * weight);
    }
    view.weight_parts[a * view.hidden_panels + p] = horizontal_sum<I>(part);
  };
  run_panel<I, Op>(view.grad_output, first, count, steps, source, then, last ? 0 : steps, scratch,
                   finish);
}

template <typename I>
void grad_hidden(const BackwardView& view, std::int64_t expert, std::int64_t panel,
                 const ThreadScratch& scratch) {
  if (view.bank.product == ProductKind::kBf16) {
    grad_hidden_as<I, true>(view, expert, panel, scratch);
  } else {
    grad_hidden_as<I, false>(view, expert, panel, scratch);
  }
}

/// [tile of 6 outputs][step][6] out of rows of values; zeros beyond the last output and row.
template <typename I, bool bf16, typename Row>
MOEKIT_INLINE void pack_left_as(const Row& row_at, std::int64_t rows, std::int64_t width,
                                char* to) {
  constexpr std::int64_t per = bf16 ? 2 : 1;
  const std::int64_t steps = ceil_div(rows, per);
  const std::int64_t tile_bytes = steps * kTileRows * 4;
  const auto half = [](float value) MOEKIT_LAMBDA {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  };
  for (std::int64_t s = 0; s < steps; ++s) {
    const float* low = row_at(s * per);
    const float* high = bf16 && s * per + 1 < rows ? row_at(s * per + 1) : nullptr;
    char* out = to + s * kTileRows * 4;
    for (std::int64_t i = 0; i < width; i += kTileRows, out += tile_bytes) {
      const std::int64_t valid = min_of(kTileRows, width - i);
      if constexpr (!bf16) {
        if (valid == kTileRows) {
          std::memcpy(out, low + i, kTileRows * 4);
        } else {
          std::memset(out, 0, kTileRows * 4);
          std::memcpy(out, low + i, static_cast<std::size_t>(valid) * 4);
        }
      } else {
        std::uint32_t pair[kTileRows] = {};
        for (std::int64_t j = 0; j < valid; ++j) {
          pair[j] = half(low[i + j]) | (high == nullptr ? 0 : half(high[i + j]) << 16);
        }
        std::memcpy(out, pair, sizeof(pair));
      }
    }
  }
}

/// Left operands of the weights' gradients, and the biases' gradients: which 0 gate, 1 up, 2 down.
template <typename I>
void pack_left(const BackwardView& view, std::int64_t expert, std::int64_t which) {
  const BankView& bank = view.bank;
  const std::int64_t first = bank.offsets[expert];
  const std::int64_t count = bank.offsets[expert + 1] - first;
  const bool of_output = which == 2;
  const std::int64_t width = of_output ? bank.output_size : bank.intermediate_size;
  const std::int64_t padded = ceil_div(width, kTileRows) * kTileRows;
  char* to = (which == 0 ? view.left_gate : of_output ? view.left_down : view.left_up) +
             view.first_step[expert] * padded * 4;
  const float* rows = which == 0 ? view.grad_gate : view.grad_up;
  const auto row_at = [&](std::int64_t r) MOEKIT_LAMBDA {
    return of_output ? view.grad_output_f32 + bank.token[first + r] * width
                     : rows + (first + r) * bank.hidden_stride;
  };
  if (bank.product == ProductKind::kBf16) {
    pack_left_as<I, true>(row_at, count, width, to);
  } else {
    pack_left_as<I, false>(row_at, count, width, to);
  }
  float* bias = which == 0 ? view.grad.gate_bias : of_output ? view.grad.down_bias
                                                             : view.grad.up_bias;
  if (bias == nullptr) return;
  bias += expert * width;
  std::memset(bias, 0, static_cast<std::size_t>(width) * sizeof(float));
  for (std::int64_t r = 0; r < count; ++r) {
    const float weight = of_output ? bank.weight[first + r] : 1.0F;
    const float* row = row_at(r);
    for (std::int64_t c = 0; c < width; ++c) bias[c] += weight * row[c];
  }
}

/// 64 columns of a weight's gradient: left [width, rows] times the panel in scratch.panel.
template <typename I, typename Op>
MOEKIT_INLINE void weight_panel(const char* left, std::int64_t width, std::int64_t steps,
                                float* grad, std::int64_t stride, std::int64_t columns,
                                const ThreadScratch& scratch) {
  const bool aligned = columns == kPanelColumns && stride % 16 == 0 &&
                       reinterpret_cast<std::uintptr_t>(grad) % 64 == 0;
  for (std::int64_t i = 0; i < width; i += kTileRows) {
    const auto rows = static_cast<int>(min_of(kTileRows, width - i));
    const auto* tile_left = reinterpret_cast<const std::uint32_t*>(left + i * steps * 4);
    if (aligned) {
      each<kTileRows>([&](auto r) MOEKIT_LAMBDA {
        if (rows == r + 1) {
          stream_tile<I, Op, r + 1>(tile_left, scratch.panel, steps,
                                    reinterpret_cast<char*>(grad + i * stride), stride * 4);
        }
      });
      continue;
    }
    const std::uint32_t* a[kTileRows];
    for (int r = 0; r < rows; ++r) a[r] = tile_left + r;
    char* c = reinterpret_cast<char*>(scratch.sums);
    Prefetch none;
    tile_rows<I, Op, kTileRows, 0>(rows, a, scratch.panel, kStepBytes, steps, c, true, none);
    for (int r = 0; r < rows; ++r) {
      std::memcpy(grad + (i + r) * stride, scratch.sums + r * kPanelColumns,
                  static_cast<std::size_t>(columns) * sizeof(float));
    }
  }
}

template <typename I, bool bf16>
MOEKIT_INLINE void grad_weights_as(const BackwardView& view, std::int64_t expert, bool down,
                                   std::int64_t p, const ThreadScratch& scratch) {
  using Op = typename I::template Product<bf16>;
  constexpr std::int64_t per = bf16 ? 2 : 1;
  const BankView& bank = view.bank;
  const std::int64_t first = bank.offsets[expert];
  const std::int64_t count = bank.offsets[expert + 1] - first;
  const std::int64_t steps = ceil_div(count, per);
  const std::int64_t f = bank.intermediate_size;
  const std::int64_t d = bank.hidden_size;
  const std::int64_t inputs = down ? f : d;
  const std::int64_t begin = p * kPanelColumns;
  const std::int64_t columns = min_of(kPanelColumns, inputs - begin);
  const auto row_at = [&](std::int64_t r) MOEKIT_LAMBDA {
    return down ? view.weighted_hidden + (first + r) * bank.hidden_stride + begin
                : view.tokens_f32 + bank.token[first + r] * d + begin;
  };
  for (std::int64_t s = 0; s < steps; ++s) {
    write_step<I, bf16>(scratch.panel + s * kStepBytes, row_at(s * per),
                        per == 2 && s * 2 + 1 < count ? row_at(s * 2 + 1) : nullptr, columns);
  }
  const auto run = [&](const char* left, std::int64_t width, float* grad) MOEKIT_LAMBDA {
    const std::int64_t padded = ceil_div(width, kTileRows) * kTileRows;
    weight_panel<I, Op>(left + view.first_step[expert] * padded * 4, width, steps,
                        grad + expert * width * inputs + begin, inputs, columns, scratch);
  };
  if (down) {
    run(view.left_down, bank.output_size, view.grad.down);
  } else {
    run(view.left_up, f, view.grad.up);
    if (bank.gated) run(view.left_gate, f, view.grad.gate);
  }
}

template <typename I>
void grad_weights(const BackwardView& view, std::int64_t expert, bool down, std::int64_t panel,
                  const ThreadScratch& scratch) {
  if (view.bank.product == ProductKind::kBf16) {
    grad_weights_as<I, true>(view, expert, down, panel, scratch);
  } else {
    grad_weights_as<I, false>(view, expert, down, panel, scratch);
  }
}

template <typename I, bool bf16>
MOEKIT_INLINE void grad_tokens_as(const BackwardView& view, std::int64_t p,
                                  const ThreadScratch& scratch) {
  using Op = typename I::template Product<bf16>;
  const BankView& bank = view.bank;
  const std::int64_t f = bank.intermediate_size;
  const std::int64_t d = bank.hidden_size;
  const std::int64_t columns = min_of(kPanelColumns, d - p * kPanelColumns);
  const std::int64_t steps = bf16 ? (f + 1) / 2 : f;
  const auto source_of = [&](const float* stack, std::int64_t expert) MOEKIT_LAMBDA {
    return RowSource<I, bf16>{stack + expert * f * d + p * kPanelColumns, d, f, columns};
  };
  const auto left_of = [&](const float* rows, const std::uint16_t* rows16) MOEKIT_LAMBDA {
    LeftRows left{};
    left.data = bf16 ? reinterpret_cast<const char*>(rows16) : reinterpret_cast<const char*>(rows);
    left.row_bytes = bank.hidden_stride * (bf16 ? 2 : 4);
    return left;
  };
  for (std::int64_t i = 0; i < bank.num_active; ++i) {
    const std::int64_t expert = bank.active[i];
    const bool last = i + 1 == bank.num_active;
    const std::int64_t first = bank.offsets[expert];
    const std::int64_t count = bank.offsets[expert + 1] - first;
    const auto finish = [&](std::int64_t row, const float* sums) MOEKIT_LAMBDA {
      add_row<I>(view.grad_tokens + bank.token[first + row] * d + p * kPanelColumns, sums, nullptr,
                 1.0F, columns);
    };
    const auto source = source_of(bank.parameters.up, expert);
    const auto following =
        source_of(bank.gated ? bank.parameters.gate : bank.parameters.up,
                  last ? expert : bank.active[i + 1]);
    if (bank.gated) {
      const auto gate = source_of(bank.parameters.gate, expert);
      run_panel<I, Op>(left_of(view.grad_gate, view.grad_gate16), first, count, steps, gate, source,
                       steps, scratch, finish);
    }
    run_panel<I, Op>(left_of(view.grad_up, view.grad_up16), first, count, steps, source, following,
                     last ? 0 : steps, scratch, finish);
  }
}

template <typename I>
void grad_tokens(const BackwardView& view, std::int64_t panel, const ThreadScratch& scratch) {
  if (view.bank.product == ProductKind::kBf16) {
    grad_tokens_as<I, true>(view, panel, scratch);
  } else {
    grad_tokens_as<I, false>(view, panel, scratch);
  }
}

// ---- the machine's peak -----------------------------------------------------------------------

/// `count` rounds of as many independent multiply-adds as a tile has, on registers alone.
template <typename I, typename Op>
void spin(std::int64_t count) {
  constexpr int chains = kTileRows * I::kTileVectors;
  typename Op::Acc acc[chains];
  each<chains>([&](auto i) MOEKIT_LAMBDA { acc[i] = typename Op::Acc{}; });
  alignas(64) static constexpr char zeros[64] = {};
  auto right = Op::right(zeros);
  auto left = Op::left(0);
  for (std::int64_t n = 0; n < count; ++n) {
    // The compiler must take it for new in each round.
    if constexpr (requires { left.first; }) {
      I::keep(left.first);
      I::keep(left.second);
    } else {
      I::keep(left);
    }
    each<chains>([&](auto i) MOEKIT_LAMBDA { acc[i] = Op::dot(acc[i], left, right); });
  }
  each<chains>([&](auto i) MOEKIT_LAMBDA { I::keep(acc[i]); });
}

template <typename I>
std::uint32_t read(const char* data, std::int64_t bytes) {
  using U = typename I::Unsigned;
  constexpr std::int64_t kAhead = 16384;
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

template <typename I>
constexpr FfnKernels make_kernels() {
  constexpr std::int64_t lanes = kTileRows * I::kTileVectors * I::kLanes;
  return {up<I>,          down<I>,           round_rows<I>,
          quantize_rows<I>, grad_hidden<I>,  pack_left<I>,
          grad_weights<I>, grad_tokens<I>,   spin<I, typename I::F32>,
          spin<I, typename I::Bf16>, spin<I, typename I::Int8>, {2 * lanes, 4 * lanes, 8 * lanes},
          read<I>};
}

}  // namespace
}  // namespace moekit::kernels
