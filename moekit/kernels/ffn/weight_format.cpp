#include "moekit/kernels/ffn/weight_format.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "moekit/core/error.h"
#include "moekit/kernels/ffn/pack_kernels.h"

namespace moekit::kernels {

const std::vector<FormatInfo>& weight_formats() {
  static const std::vector<FormatInfo> kTable{
      {WeightFormat::kF32, "f32", 32, 0, 1, 1, 32, 0, "exact"},
      {WeightFormat::kBf16, "bf16", 16, 0, 2, 2, 16, 0, "max(|w| / 256, 2^-134)"},
      {WeightFormat::kInt8, "int8", 8, 0, 4, 4, 8, 128, "max(channel's max |w| / 254, 2^-119)"},
      {WeightFormat::kInt4G128, "int4-g128", 4.125, 128, 128, 4, 4, 8,
       "group's scale / 2, the scale its max |w| / 7 rounded up by at most 1/128; at least 2^-123"},
      {WeightFormat::kInt4G32, "int4-g32", 4.5, 32, 32, 4, 4, 8,
       "group's scale / 2, the scale its max |w| / 7 rounded up by at most 1/128; at least 2^-123"},
      {WeightFormat::kTernary, "ternary", 2, 0, 16, 4, 2, 1,
       "max(scale / 2, |w| - scale), the scale the matrix' mean |w|"},
  };
  return kTable;
}

const FormatInfo& format_info(WeightFormat format) {
  for (const auto& row : weight_formats()) {
    if (row.format == format) return row;
  }
  throw ArgumentError("weight format: unknown");
}

WeightFormat parse_weight_format(std::string_view name) {
  std::string known;
  for (const auto& row : weight_formats()) {
    if (row.name == name) return row.format;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw ArgumentError(concat("weight format \"", name, "\" is unknown; wanted one of ", known));
}

float ternary_scale(const float* matrix, std::int64_t count) {
  const double sum = pack_kernels().sum_of_sizes(matrix, count);
  return std::max(1e-5F, static_cast<float>(sum / static_cast<double>(count)));
}

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return 0x7fc0;
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

std::uint16_t to_bf16_up(float value) {
  return static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(value) + 0xffffU) >> 16);
}

float from_bf16(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

}  // namespace moekit::kernels
