#include "moekit/kernels/ffn/packed_experts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "moekit/core/error.h"

namespace moekit::kernels {
namespace {

constexpr std::int64_t kStepBytes = 4 * kPanelColumns;    // 32 bits of every column
constexpr std::int64_t kScaleBytes = 2 * kPanelColumns;   // bfloat16, of one int4 group
constexpr std::int64_t kHalf = kPanelColumns / 2;         // gate and up share a panel
constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;  // an expert's bytes fit 64 bits by far

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Where the code of input k, column c lies: byte and the bit in it.
struct CodePlace {
  std::int64_t byte;
  int shift;
};

CodePlace place_of(const FormatInfo& format, std::int64_t k, std::int64_t column) {
  std::int64_t base = 0;
  if (format.group > 0) {  // int4: a group's scales, then its codes
    const std::int64_t group_bytes = kScaleBytes + format.group * kPanelColumns / 2;
    base = k / format.group * group_bytes + kScaleBytes;
    k %= format.group;
  }
  const std::int64_t step = k / format.per_step;
  const std::int64_t in_step = k % format.per_step;
  const std::int64_t packed = 32 / (format.code_bits * format.per_step);  // steps in 256 bytes
  const std::int64_t byte = step / packed * kStepBytes + column * 4 +
                            in_step * (format.per_step == 1 ? 4 : 4 / format.per_step);
  return {base + byte, static_cast<int>(step % packed * format.code_bits)};
}

/// Rounds to nearest, ties to even, within -limit..limit.
int round_code(float value, int low, int high) {
  return static_cast<int>(
      std::clamp(std::nearbyint(value), static_cast<float>(low), static_cast<float>(high)));
}

void write_code(char* panel, const FormatInfo& format, std::int64_t k, std::int64_t column,
                int code) {
  const auto place = place_of(format, k, column);
  auto& byte = reinterpret_cast<unsigned char&>(panel[place.byte]);
  byte = static_cast<unsigned char>(byte | static_cast<unsigned>(code + format.code_offset)
                                               << place.shift);
}

float largest(const float* from, std::int64_t count) {
  float most = 0;
  for (std::int64_t i = 0; i < count; ++i) most = std::max(most, std::fabs(from[i]));
  return most;
}

/// Largest finite bfloat16.
constexpr float kMaxBf16 = 0x1.fep127F;

/// A scale that weights can be divided by, or 0.
float usable_scale(float scale) { return scale < std::numeric_limits<float>::min() ? 0.0F : scale; }

/// Inputs of one column as f32 or bf16.
void write_floats(char* panel, const FormatInfo& format, std::int64_t column, const float* row,
                  std::int64_t inputs) {
  for (std::int64_t k = 0; k < inputs; ++k) {
    char* to = panel + place_of(format, k, column).byte;
    if (format.format == WeightFormat::kF32) {
      std::memcpy(to, &row[k], sizeof(float));
    } else {
      const std::uint16_t value = to_bf16(std::clamp(row[k], -kMaxBf16, kMaxBf16));
      std::memcpy(to, &value, sizeof(value));
    }
  }
}

/// Inputs [from, to) of one column as codes low..high of one scale.
void write_codes(char* panel, const FormatInfo& format, std::int64_t column, const float* row,
                 std::int64_t from, std::int64_t to, float scale, int low, int high) {
  for (std::int64_t k = from; k < to; ++k) {
    const float ratio = scale > 0 ? row[k] / scale : 0.0F;
    write_code(panel, format, k, column, round_code(ratio, low, high));
  }
}

/// Inputs of one column as int4, each group after its scales.
void write_groups(char* panel, const FormatInfo& format, std::int64_t column, const float* row,
                  std::int64_t inputs) {
  for (std::int64_t k = 0; k < inputs; k += format.group) {
    const std::int64_t end = std::min(inputs, k + format.group);
    // Rounded up, so that the largest weight stays within 7.
    const std::uint16_t stored = to_bf16_up(usable_scale(largest(row + k, end - k) / 7));
    std::memcpy(panel + place_of(format, k, 0).byte - kScaleBytes + 2 * column, &stored,
                sizeof(stored));
    write_codes(panel, format, column, row, k, end, from_bf16(stored), -8, 7);
  }
}

float* scale_ptr(std::byte* base, std::int64_t offset) {
  return reinterpret_cast<float*>(base + offset);
}

/// Refuses what a format cannot hold, naming where it is. @param columns  0: a vector
void check_values(const FormatInfo& format, const char* name, std::int64_t expert,
                  const float* values, std::int64_t rows, std::int64_t columns) {
  const std::int64_t count = rows * std::max<std::int64_t>(columns, 1);
  const bool limited = columns > 0 && format.per_step == 4;
  const float most = limited ? kMaxQuantizedWeight : std::numeric_limits<float>::max();
  // NaN compares false. Counted a block at a time, without a branch for each: a training step packs
  // all weights anew, and a search that may end at any of them took a sixth of it.
  constexpr std::int64_t kBlock = 4096;
  const auto is_bad = [most](float value) { return !(std::fabs(value) <= most); };
  const float* bad = values + count;
  for (std::int64_t begin = 0; begin < count && bad == values + count; begin += kBlock) {
    const float* block = values + begin;
    const std::int64_t size = std::min(kBlock, count - begin);
    int wrong = 0;
    for (std::int64_t i = 0; i < size; ++i) wrong += is_bad(block[i]) ? 1 : 0;
    if (wrong > 0) bad = std::find_if(block, block + size, is_bad);
  }
  if (bad == values + count) return;
  const std::int64_t at = bad - values;
  throw ArgumentError(
      concat("PackedExperts: ", name, " of expert ", expert, " is ", *bad,
             columns > 0 ? concat(" at row ", at / columns, ", column ", at % columns)
                         : concat(" at row ", at),
             std::isfinite(*bad) ? concat("; format ", format.name, " takes at most ", most) : ""));
}

}  // namespace

bool has_ffn_kernel(Activation activation) {
  constexpr std::array kKnown{Activation::kRelu,  Activation::kGelu,  Activation::kSquaredRelu,
                              Activation::kReglu, Activation::kGeglu, Activation::kSwiglu};
  return std::find(kKnown.begin(), kKnown.end(), activation) != kKnown.end();
}

void check_shape(const FfnShape& shape) {
  MOEKIT_CHECK(shape.num_experts >= 1 && shape.num_experts <= 65536,
               "expert kernels: num_experts must be 1..65536; got ", shape.num_experts);
  const auto check_size = [](const char* name, std::int64_t size) {
    MOEKIT_CHECK(size >= 1 && size <= kMaxSize, "expert kernels: ", name, " must be 1..", kMaxSize,
                 "; got ", size);
  };
  check_size("hidden_size", shape.hidden_size);
  check_size("intermediate_size", shape.intermediate_size);
  check_size("output_size", shape.output_size);
  MOEKIT_CHECK(has_ffn_kernel(shape.activation), "expert kernels: there is none for activation ",
               enum_name(shape.activation));
  MOEKIT_CHECK(shape.hidden_norm_eps >= 0 && std::isfinite(shape.hidden_norm_eps),
               "expert kernels: hidden_norm_eps must be at least 0; got ", shape.hidden_norm_eps);
}

PanelLayout make_panel_layout(std::int64_t inputs, std::int64_t columns, const FormatInfo& format,
                              std::int64_t offset) {
  PanelLayout layout;
  layout.inputs = inputs;
  layout.padded_inputs = round_up(inputs, format.k_multiple);
  layout.columns = columns;
  layout.panels = (columns + kPanelColumns - 1) / kPanelColumns;
  layout.panel_bytes = layout.padded_inputs * kPanelColumns * format.code_bits / 8;
  if (format.group > 0) {
    layout.panel_bytes += layout.padded_inputs / format.group * kScaleBytes;
  }
  layout.offset = offset;
  return layout;
}

PackedExperts::PackedExperts(const FfnShape& shape, WeightFormat format)
    : shape_(shape), info_(&format_info(format)) {
  check_shape(shape);
  MOEKIT_CHECK(info_->per_step < 4 ||
                   std::max(shape.hidden_size, shape.intermediate_size) <= kMaxQuantizedInputs,
               "PackedExperts: format ", info_->name, " takes at most ", kMaxQuantizedInputs,
               " inputs (sums are 32-bit); got hidden_size ", shape.hidden_size,
               ", intermediate_size ", shape.intermediate_size);
  MOEKIT_CHECK(shape.hidden_norm_eps == 0 || info_->per_step == 4, "PackedExperts: format ",
               info_->name, " does not normalise hidden values; integer formats do");
  // Gated: every panel holds 32 hidden values, so the last one may be part empty in both halves.
  const std::int64_t up_columns = is_gated(shape.activation)
                                      ? 2 * round_up(shape.intermediate_size, kHalf)
                                      : shape.intermediate_size;
  up_ = make_panel_layout(shape.hidden_size, up_columns, *info_, 0);
  const std::int64_t up_bytes = up_.panels * up_.panel_bytes;
  down_ = make_panel_layout(shape.intermediate_size, shape.output_size, *info_, up_bytes);
  expert_bytes_ = up_bytes + down_.panels * down_.panel_bytes;
  const auto add_vector = [&](std::int64_t& offset, const PanelLayout& layout) {
    offset = expert_bytes_;
    expert_bytes_ += layout.panels * kStepBytes;
  };
  if (shape.bias) {
    add_vector(up_bias_, up_);
    add_vector(down_bias_, down_);
  }
  if (info_->per_step == 4 && info_->group == 0) {
    add_vector(up_scale_, up_);
    add_vector(down_scale_, down_);
  }
  MOEKIT_CHECK(expert_bytes_ <= std::numeric_limits<std::int64_t>::max() / shape.num_experts,
               "PackedExperts: ", shape.num_experts, " experts of ", expert_bytes_,
               " bytes are more than can be addressed");
  slab_ = Slab(static_cast<std::size_t>(shape.num_experts * expert_bytes_));
}

const float* PackedExperts::vector_at(std::int64_t expert, std::int64_t offset) const {
  return offset < 0 ? nullptr : reinterpret_cast<const float*>(expert_data(expert) + offset);
}
const float* PackedExperts::up_bias(std::int64_t e) const { return vector_at(e, up_bias_); }
const float* PackedExperts::down_bias(std::int64_t e) const { return vector_at(e, down_bias_); }
const float* PackedExperts::up_scale(std::int64_t e) const { return vector_at(e, up_scale_); }
const float* PackedExperts::down_scale(std::int64_t e) const { return vector_at(e, down_scale_); }

// Row r of the matrix becomes column first + r % block of panel r / block.
void PackedExperts::pack_matrix(char* base, float* scales, const PanelLayout& layout,
                                const float* matrix, std::int64_t rows, std::int64_t first,
                                std::int64_t block) const {
  const std::int64_t inputs = layout.inputs;
  const bool ternary = info_->format == WeightFormat::kTernary;
  const float of_matrix = ternary ? ternary_scale(matrix, rows * inputs) : 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = matrix + r * inputs;
    char* panel = base + r / block * layout.panel_bytes;
    const std::int64_t column = first + r % block;
    if (info_->per_step < 4) {
      write_floats(panel, *info_, column, row, inputs);
    } else if (info_->group > 0) {
      write_groups(panel, *info_, column, row, inputs);
    } else {
      const int limit = ternary ? 1 : 127;
      const float scale = ternary ? of_matrix : usable_scale(largest(row, inputs) / 127);
      scales[r / block * kPanelColumns + column] = scale;
      write_codes(panel, *info_, column, row, 0, inputs, scale, -limit, limit);
    }
  }
}

void PackedExperts::unpack_matrix(const char* base, const float* scales, const PanelLayout& layout,
                                  float* matrix, std::int64_t rows, std::int64_t first,
                                  std::int64_t block) const {
  for (std::int64_t r = 0; r < rows; ++r) {
    const char* panel = base + r / block * layout.panel_bytes;
    const std::int64_t column = first + r % block;
    const float of_column = scales ? scales[r / block * kPanelColumns + column] : 1;
    for (std::int64_t k = 0; k < layout.inputs; ++k) {
      const auto weight = read_weight(panel, *info_, k, column);
      matrix[r * layout.inputs + k] = weight.code * weight.scale * of_column;
    }
  }
}

PackedWeight read_weight(const char* panel, const FormatInfo& format, std::int64_t k,
                         std::int64_t column) {
  const auto place = place_of(format, k, column);
  if (format.format == WeightFormat::kF32) {
    float value = 0;
    std::memcpy(&value, panel + place.byte, sizeof(value));
    return {value, 1};
  }
  std::uint16_t half = 0;
  if (format.format == WeightFormat::kBf16) {
    std::memcpy(&half, panel + place.byte, sizeof(half));
    return {from_bf16(half), 1};
  }
  float scale = 1;
  if (format.group > 0) {
    const auto group_start = place_of(format, k / format.group * format.group, 0).byte;
    std::memcpy(&half, panel + group_start - kScaleBytes + 2 * column, sizeof(half));
    scale = from_bf16(half);
  }
  const auto byte = static_cast<unsigned char>(panel[place.byte]);
  const int mask = (1 << format.code_bits) - 1;
  return {static_cast<float>(((byte >> place.shift) & mask) - format.code_offset), scale};
}

void PackedExperts::pack(std::int64_t expert, const ExpertMatrices& from) {
  const auto& s = shape_;
  const bool gated = is_gated(s.activation);
  MOEKIT_CHECK(expert >= 0 && expert < s.num_experts, "PackedExperts: expert ", expert,
               "; there are ", s.num_experts);
  MOEKIT_CHECK(from.up != nullptr && from.down != nullptr && (from.gate != nullptr) == gated,
               "PackedExperts: ", enum_name(s.activation), " experts have ",
               gated ? "gate, up and down" : "up and down, no gate");
  MOEKIT_CHECK((from.up_bias != nullptr) == s.bias && (from.down_bias != nullptr) == s.bias &&
                   (from.gate_bias != nullptr) == (s.bias && gated),
               "PackedExperts: the shape says bias = ", s.bias, "; the matrices say otherwise");
  const std::int64_t f = s.intermediate_size;
  const auto check = [&](const char* name, const float* values, std::int64_t rows,
                         std::int64_t columns) {
    if (values != nullptr) check_values(*info_, name, expert, values, rows, columns);
  };
  check("up", from.up, f, s.hidden_size);
  check("down", from.down, s.output_size, f);
  check("gate", from.gate, f, s.hidden_size);
  check("up_bias", from.up_bias, f, 0);
  check("down_bias", from.down_bias, s.output_size, 0);
  check("gate_bias", from.gate_bias, f, 0);

  std::byte* data = slab_.data() + expert * expert_bytes_;
  std::memset(data, 0, static_cast<std::size_t>(expert_bytes_));
  auto* up = reinterpret_cast<char*>(data + up_.offset);
  auto* down = reinterpret_cast<char*>(data + down_.offset);
  float* up_scales = up_scale_ < 0 ? nullptr : scale_ptr(data, up_scale_);
  float* down_scales = down_scale_ < 0 ? nullptr : scale_ptr(data, down_scale_);
  const std::int64_t block = gated ? kHalf : kPanelColumns;
  if (gated) pack_matrix(up, up_scales, up_, from.gate, f, 0, block);
  pack_matrix(up, up_scales, up_, from.up, f, kPanelColumns - block, block);
  pack_matrix(down, down_scales, down_, from.down, s.output_size, 0, kPanelColumns);
  if (!s.bias) return;
  float* up_bias = scale_ptr(data, up_bias_);
  for (std::int64_t r = 0; r < f; ++r) {
    float* panel = up_bias + r / block * kPanelColumns + r % block;
    if (gated) panel[0] = from.gate_bias[r];
    panel[kPanelColumns - block] = from.up_bias[r];
  }
  std::memcpy(scale_ptr(data, down_bias_), from.down_bias,
              static_cast<std::size_t>(s.output_size) * sizeof(float));
}

void PackedExperts::copy(std::int64_t expert, const PackedExperts& from, std::int64_t from_expert) {
  const auto& a = shape_;
  const auto& b = from.shape_;
  MOEKIT_CHECK(a.hidden_size == b.hidden_size && a.intermediate_size == b.intermediate_size &&
                   a.output_size == b.output_size && a.activation == b.activation &&
                   a.bias == b.bias && a.hidden_norm_eps == b.hidden_norm_eps &&
                   info_ == from.info_,
               "PackedExperts: cannot copy an expert of another shape or format");
  MOEKIT_CHECK(
      expert >= 0 && expert < a.num_experts && from_expert >= 0 && from_expert < b.num_experts,
      "PackedExperts: cannot copy expert ", from_expert, " of ", b.num_experts, " to ", expert,
      " of ", a.num_experts);
  std::memmove(slab_.data() + expert * expert_bytes_, from.expert_data(from_expert),
               static_cast<std::size_t>(expert_bytes_));
}

void PackedExperts::unpack(std::int64_t expert, const MutableExpertMatrices& to) const {
  MOEKIT_CHECK(expert >= 0 && expert < shape_.num_experts, "PackedExperts: expert ", expert,
               "; there are ", shape_.num_experts);
  const bool gated = is_gated(shape_.activation);
  const std::int64_t f = shape_.intermediate_size;
  const std::int64_t block = gated ? kHalf : kPanelColumns;
  const char* up = panel(expert, up_, 0);
  if (gated) unpack_matrix(up, up_scale(expert), up_, to.gate, f, 0, block);
  unpack_matrix(up, up_scale(expert), up_, to.up, f, kPanelColumns - block, block);
  unpack_matrix(panel(expert, down_, 0), down_scale(expert), down_, to.down, shape_.output_size, 0,
                kPanelColumns);
  if (!shape_.bias) return;
  for (std::int64_t r = 0; r < f; ++r) {
    const float* of_panel = up_bias(expert) + r / block * kPanelColumns + r % block;
    if (gated) to.gate_bias[r] = of_panel[0];
    to.up_bias[r] = of_panel[kPanelColumns - block];
  }
  std::memcpy(to.down_bias, down_bias(expert),
              static_cast<std::size_t>(shape_.output_size) * sizeof(float));
}

}  // namespace moekit::kernels
