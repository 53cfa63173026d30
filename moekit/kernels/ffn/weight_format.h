#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace moekit::kernels {

/// How the weights of a packed matrix are stored. w = scale * (code - offset) for integer formats.
/// Packing refuses weights and biases that are NaN or infinite, and for integer formats weights
/// beyond +-kMaxQuantizedWeight. A scale below 2^-126 could not be divided by: it counts as 0, and
/// so do its weights.
enum class WeightFormat {
  kF32,
  /// Rounded to nearest even, weights not beyond the largest bfloat16, 3.39e38; tokens and hidden
  /// values too, which become infinite there.
  kBf16,
  kInt8,      ///< one scale an output channel, codes -127..127
  kInt4G128,  ///< one bfloat16 scale for 128 inputs of a channel, codes -8..7
  kInt4G32,   ///< one bfloat16 scale for 32 inputs of a channel
  kTernary,   ///< 2 bits, -1, 0 or 1; one scale a matrix: the mean of |w|
};

/// What the products of a training step are made in. Sums and weights are float in both.
enum class ComputeType { kF32, kBf16 };

/// What is known of a format.
struct FormatInfo {
  WeightFormat format;
  std::string_view name;
  double bits_per_weight;   ///< scales included where they grow with the matrix; without padding
  std::int64_t group;       ///< inputs that share a scale; 0: all of them
  std::int64_t k_multiple;  ///< inputs are padded to a multiple of this
  std::int64_t per_step;    ///< inputs in 32 bits of a left operand: 1 f32, 2 bf16, 4 int8
  std::int64_t code_bits;   ///< stored bits of one weight, without scales
  int code_offset;          ///< what is taken off a stored code
  std::string_view error_bound;  ///< of one weight
};

/// All formats, the largest first.
const std::vector<FormatInfo>& weight_formats();
const FormatInfo& format_info(WeightFormat format);

/// @throws ArgumentError naming what there is, when `name` is none of them.
WeightFormat parse_weight_format(std::string_view name);

/// Inputs of a product whose int32 sums cannot overflow: 65,536 * 255 * 127 < 2^31.
inline constexpr std::int64_t kMaxQuantizedInputs = 65536;

/// Largest weight that an integer format takes: int4's float sums over 65,536 inputs, 127 * 8 times
/// its scale each, stay finite.
inline constexpr float kMaxQuantizedWeight = 0x1p100F;  // 1.27e30

/// The scale of a ternary matrix: gamma = mean |w|, not below 1e-5; its codes are w / gamma rounded
/// to nearest, ties to even, within -1..1. Source: Ma et al. 2024, arXiv:2402.17764, eq. 1-3.
float ternary_scale(const float* matrix, std::int64_t count);

/// Nearest bfloat16, ties to even, infinite beyond the largest; NaN stays NaN.
std::uint16_t to_bf16(float value);
/// The smallest bfloat16 that is not below a finite value >= 0.
std::uint16_t to_bf16_up(float value);
float from_bf16(std::uint16_t value);

}  // namespace moekit::kernels
