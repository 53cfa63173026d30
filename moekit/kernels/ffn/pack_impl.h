// Packing, in loops that the compiler makes vectors of: compiled once for each instruction set. No
// inline function of another header is called: see ffn_impl.h.
#pragma once

#include <cstring>

#include "moekit/kernels/common/vectors_impl.h"
#include "moekit/kernels/ffn/pack_kernels.h"

namespace moekit::kernels {

const PackKernels* pack_kernels_avx512();
const PackKernels* pack_kernels_avx2();
const PackKernels* pack_kernels_generic();

namespace {

// A pass makes so many lines of 256 bytes of a panel, from four cache lines of every column: 16 KiB
// of words between them. Of one line each, what a column's pass costs besides was most of the time.
constexpr std::int64_t kPassLines = 64;
constexpr std::int64_t kLineBytes = 4 * kPanelColumns;
constexpr std::int64_t kGroupScaleBytes = 2 * kPanelColumns;  // int4: bfloat16, before a group
constexpr std::int64_t kMostPacked = 4;                       // steps in a line: ternary
constexpr std::int64_t kPassGroups = kPassLines / 4;          // of 32 inputs, two steps a line
constexpr float kLargestBf16 = 0x1.fep127F;
constexpr float kSmallestScale = 0x1p-126F;  // what weights can be divided by

/// Bits of floats; vectors of them come from the loops around.
MOEKIT_INLINE std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
MOEKIT_INLINE float of_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

MOEKIT_INLINE float size_of(float value) { return of_bits(bits_of(value) & 0x7fffffffU); }

float largest(const float* values, std::int64_t count) {
  // As integers, whose order is that of sizes: a maximum of floats is no vector instruction where
  // NaN must be minded.
  std::uint32_t most = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t size = bits_of(values[i]) & 0x7fffffffU;
    most = size > most ? size : most;
  }
  return of_bits(most);
}

bool all_within(const float* values, std::int64_t count, float most) {
  const std::uint32_t limit = bits_of(most);  // NaN and infinity are beyond every number
  std::uint32_t beyond = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    beyond |= (bits_of(values[i]) & 0x7fffffffU) > limit ? 1U : 0U;
  }
  return beyond == 0;
}

double sum_of_sizes(const float* values, std::int64_t count) {
  constexpr std::int64_t kSums = 8;  // side by side: the compiler makes vectors of them
  double sums[kSums] = {};
  std::int64_t start = 0;
  for (; start + kSums <= count; start += kSums) {
    for (std::int64_t i = 0; i < kSums; ++i) {
      sums[i] += static_cast<double>(size_of(values[start + i]));
    }
  }
  for (std::int64_t i = start; i < count; ++i) sums[0] += static_cast<double>(size_of(values[i]));
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

/// Nearest bfloat16, ties to even; the largest one for what lies beyond it.
void to_bf16_row(const float* row, std::int64_t count, std::uint16_t* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    float value = row[i];
    value = value < -kLargestBf16 ? -kLargestBf16 : value;
    value = value > kLargestBf16 ? kLargestBf16 : value;
    const std::uint32_t bits = bits_of(value);
    to[i] = static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
  }
}

/// value / scale rounded to nearest, ties to even, within low..high, and the format's offset.
void to_codes(const float* row, std::int64_t count, float scale, float low, float high, int offset,
              unsigned char* to) {
  if (!(scale > 0)) {
    std::memset(to, offset, static_cast<std::size_t>(count));
    return;
  }
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  for (std::int64_t i = 0; i < count; ++i) {
    float ratio = row[i] / scale;
    ratio = ratio < low ? low : ratio;
    ratio = ratio > high ? high : ratio;
    to[i] = static_cast<unsigned char>(static_cast<int>((ratio + kMagic) - kMagic) + offset);
  }
}

/// The scale of a group of int4: largest / 7, rounded up to bfloat16 so that it stays within 7.
std::uint16_t group_scale(const float* row, std::int64_t count) {
  const float scale = largest(row, count) / 7;
  return scale < kSmallestScale ? std::uint16_t{0}
                                : static_cast<std::uint16_t>((bits_of(scale) + 0xffffU) >> 16);
}

/// Where lines and groups of a panel lie.
struct Lines {
  std::int64_t packed;  ///< steps in a line
  std::int64_t inputs;  ///< of a line
  std::int64_t count;   ///< of a panel
  std::int64_t group;   ///< lines of a group, 0: none

  Lines(const FormatInfo& format, std::int64_t all_inputs)
      : packed(32 / (format.code_bits * format.per_step)),
        inputs(packed * format.per_step),
        count(ceil_div(all_inputs, format.k_multiple) * format.k_multiple / inputs),
        group(format.group / inputs) {}
  std::int64_t at(std::int64_t line) const {
    if (group == 0) return line * kLineBytes;
    return line * kLineBytes + (line / group + 1) * kGroupScaleBytes;
  }
};

using FourWords = std::uint32_t __attribute__((vector_size(16)));

/// to[i][j] = from[j][i] for 4 x 4 words; rows lie so many words apart. What gathers and scatters
/// of single words would take three times as long for.
MOEKIT_INLINE void transpose_four(const std::uint32_t* from, std::int64_t from_stride,
                                  std::uint32_t* to, std::int64_t to_stride) {
  FourWords row[4];
  for (int j = 0; j < 4; ++j) std::memcpy(&row[j], from + j * from_stride, sizeof(FourWords));
  const FourWords a = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  const FourWords b = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  const FourWords c = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  const FourWords d = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  row[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
  row[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
  row[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
  row[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
  for (int i = 0; i < 4; ++i) std::memcpy(to + i * to_stride, &row[i], sizeof(FourWords));
}

/// One column's words of a pass: the codes of `count` inputs, and the zeros after them.
void column_words(const FormatInfo& format, const Lines& lines, const float* row,
                  std::int64_t count, float scale, std::uint16_t* group_scales,
                  std::uint32_t* words) {
  alignas(64) std::uint32_t steps[kPassLines * kMostPacked];
  if (count < kPassLines * lines.inputs) std::memset(steps, 0, sizeof(steps));
  auto* codes = reinterpret_cast<unsigned char*>(steps);
  switch (format.format) {
    case WeightFormat::kF32:
      std::memcpy(words, row, static_cast<std::size_t>(count) * sizeof(float));
      std::memset(words + count, 0, static_cast<std::size_t>(kPassLines - count) * 4);
      return;
    case WeightFormat::kBf16:
      to_bf16_row(row, count, reinterpret_cast<std::uint16_t*>(steps));
      break;
    case WeightFormat::kInt8:
      to_codes(row, count, scale, -127, 127, format.code_offset, codes);
      break;
    case WeightFormat::kTernary:
      to_codes(row, count, scale, -1, 1, format.code_offset, codes);
      break;
    default:  // int4
      for (std::int64_t g = 0; g * format.group < count; ++g) {
        const std::int64_t begin = g * format.group;
        const std::int64_t size = min_of(format.group, count - begin);
        group_scales[g * kPanelColumns] = group_scale(row + begin, size);
        to_codes(row + begin, size,
                 of_bits(static_cast<std::uint32_t>(group_scales[g * kPanelColumns]) << 16), -8, 7,
                 format.code_offset, codes + begin);
      }
  }
  for (std::int64_t w = 0; w < kPassLines; ++w) {
    std::uint32_t word = steps[w * lines.packed];
    for (std::int64_t s = 1; s < lines.packed; ++s) {
      word |= steps[w * lines.packed + s] << (s * format.code_bits);
    }
    words[w] = word;
  }
}

void pack_panel(const FormatInfo& format, const float* const* rows, const float* scales,
                std::int64_t inputs, char* panel) {
  const Lines lines(format, inputs);
  alignas(64) std::uint32_t words[kPanelColumns][kPassLines];
  // Of int4 a pass has four groups of 128 inputs or sixteen of 32.
  alignas(64) std::uint16_t group_scales[kPassGroups * kPanelColumns];
  for (std::int64_t line = 0; line < lines.count; line += kPassLines) {
    const std::int64_t begin = line * lines.inputs;
    const std::int64_t count = min_of(kPassLines * lines.inputs, inputs - begin);
    if (lines.group > 0) std::memset(group_scales, 0, sizeof(group_scales));
    for (std::int64_t c = 0; c < kPanelColumns; ++c) {
      if (rows[c] == nullptr) {
        std::memset(words[c], 0, sizeof(words[c]));
      } else {
        column_words(format, lines, rows[c] + begin, count, scales == nullptr ? 0 : scales[c],
                     group_scales + c, words[c]);
      }
    }
    const std::int64_t made = min_of(kPassLines, lines.count - line);
    for (std::int64_t l = 0; l < made; l += 4) {
      alignas(64) std::uint32_t out[4][kPanelColumns];
      for (std::int64_t c = 0; c < kPanelColumns; c += 4) {
        transpose_four(&words[c][l], kPassLines, &out[0][c], kPanelColumns);
      }
      for (std::int64_t i = 0; i < min_of(4, made - l); ++i) {
        std::memcpy(panel + lines.at(line + l + i), out[i], kLineBytes);
      }
    }
    for (std::int64_t l = 0; lines.group > 0 && l < made; l += lines.group) {
      std::memcpy(panel + lines.at(line + l) - kGroupScaleBytes,
                  group_scales + l / lines.group * kPanelColumns, kGroupScaleBytes);
    }
  }
}

/// One column's weights of a pass, from its words.
void column_weights(const FormatInfo& format, const Lines& lines, const std::uint32_t* words,
                    std::int64_t count, float scale, const std::uint16_t* group_scales,
                    float* row) {
  alignas(64) std::uint32_t steps[kPassLines * kMostPacked];
  const std::uint32_t mask = format.code_bits == 2   ? 0x03030303U
                             : format.code_bits == 4 ? 0x0f0f0f0fU
                                                     : 0xffffffffU;
  for (std::int64_t w = 0; w < kPassLines; ++w) {
    for (std::int64_t s = 0; s < lines.packed; ++s) {
      steps[w * lines.packed + s] = (words[w] >> (s * format.code_bits)) & mask;
    }
  }
  if (format.format == WeightFormat::kF32) {
    std::memcpy(row, steps, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  if (format.format == WeightFormat::kBf16) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(steps);
    for (std::int64_t i = 0; i < count; ++i) {
      row[i] = of_bits(static_cast<std::uint32_t>(halves[i]) << 16);
    }
    return;
  }
  const auto* codes = reinterpret_cast<const unsigned char*>(steps);
  const std::int64_t group = format.group > 0 ? format.group : count;
  for (std::int64_t begin = 0; begin < count; begin += group) {
    const std::int64_t end = min_of(begin + group, count);
    const float of_group =
        format.group > 0
            ? of_bits(static_cast<std::uint32_t>(group_scales[begin / group * kPanelColumns]) << 16)
            : scale;
    for (std::int64_t i = begin; i < end; ++i) {
      row[i] = static_cast<float>(codes[i] - format.code_offset) * of_group;
    }
  }
}

void unpack_panel(const FormatInfo& format, const char* panel, const float* scales,
                  std::int64_t inputs, float* const* rows) {
  const Lines lines(format, inputs);
  alignas(64) std::uint32_t words[kPanelColumns][kPassLines];
  alignas(64) std::uint16_t group_scales[kPassGroups * kPanelColumns];
  for (std::int64_t line = 0; line < lines.count; line += kPassLines) {
    const std::int64_t begin = line * lines.inputs;
    const std::int64_t count = min_of(kPassLines * lines.inputs, inputs - begin);
    const std::int64_t there = min_of(kPassLines, lines.count - line);
    for (std::int64_t l = 0; l < there; l += 4) {
      alignas(64) std::uint32_t in[4][kPanelColumns];
      for (std::int64_t i = 0; i < min_of(4, there - l); ++i) {
        std::memcpy(in[i], panel + lines.at(line + l + i), kLineBytes);
      }
      for (std::int64_t c = 0; c < kPanelColumns; c += 4) {
        transpose_four(&in[0][c], kPanelColumns, &words[c][l], kPassLines);
      }
    }
    for (std::int64_t l = 0; lines.group > 0 && l < there; l += lines.group) {
      std::memcpy(group_scales + l / lines.group * kPanelColumns,
                  panel + lines.at(line + l) - kGroupScaleBytes, kGroupScaleBytes);
    }
    for (std::int64_t c = 0; c < kPanelColumns; ++c) {
      if (rows[c] == nullptr) continue;
      column_weights(format, lines, words[c], count, scales == nullptr ? 1 : scales[c],
                     group_scales + c, rows[c] + begin);
    }
  }
}

constexpr PackKernels kPackKernels{&pack_panel, &unpack_panel, &largest, &all_within,
                                   &sum_of_sizes};

}  // namespace
}  // namespace moekit::kernels
