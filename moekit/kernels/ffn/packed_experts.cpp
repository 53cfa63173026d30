#include "moekit/kernels/ffn/packed_experts.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/kernels/ffn/pack_kernels.h"

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

/// A scale that weights can be divided by, or 0.
float usable_scale(float scale) { return scale < std::numeric_limits<float>::min() ? 0.0F : scale; }

/// work(piece) for 0 .. pieces-1, on the pool's threads where there is one.
template <typename Work>
void run_pieces(ThreadPool* pool, std::int64_t pieces, const Work& work) {
  if (pool != nullptr) {
    pool->run(pieces, [&](std::int64_t piece, int) { work(piece); });
  } else {
    for (std::int64_t piece = 0; piece < pieces; ++piece) work(piece);
  }
}

float* scale_ptr(std::byte* base, std::int64_t offset) {
  return reinterpret_cast<float*>(base + offset);
}

/// Refuses what a format cannot hold, naming where it is. @param columns  0: a vector
void check_values(const FormatInfo& format, const char* name, std::int64_t expert,
                  const float* values, std::int64_t rows, std::int64_t columns, ThreadPool* pool) {
  const std::int64_t count = rows * std::max<std::int64_t>(columns, 1);
  const bool limited = columns > 0 && format.per_step == 4;
  const float most = limited ? kMaxQuantizedWeight : std::numeric_limits<float>::max();
  constexpr std::int64_t kBlock = std::int64_t{1} << 16;  // read in some 20 us
  std::atomic<bool> all_right{true};
  run_pieces(pool, (count + kBlock - 1) / kBlock, [&](std::int64_t piece) {
    const std::int64_t begin = piece * kBlock;
    if (!pack_kernels().all_within(values + begin, std::min(kBlock, count - begin), most)) {
      all_right = false;
    }
  });
  if (all_right) return;
  const float* bad = std::find_if(values, values + count, [most](float value) {
    return !(std::fabs(value) <= most);  // NaN compares false
  });
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

namespace {

/// The rows of `parts` matrices [rows, inputs] that panel `panel` has as columns: of two matrices
/// 32 each, the second's from column 32 on. Null where there is none.
template <typename Float>
std::array<Float*, kPanelColumns> rows_of_panel(const std::array<Float*, 2>& matrices, int parts,
                                                std::int64_t rows, std::int64_t inputs,
                                                std::int64_t panel) {
  std::array<Float*, kPanelColumns> out{};
  const std::int64_t block = kPanelColumns / parts;
  for (std::int64_t c = 0; c < kPanelColumns; ++c) {
    const std::int64_t row = panel * block + c % block;
    if (row < rows) {
      out[static_cast<std::size_t>(c)] =
          matrices[static_cast<std::size_t>(c / block)] + row * inputs;
    }
  }
  return out;
}

}  // namespace

void PackedExperts::pack_product(char* base, float* scales, const PanelLayout& layout,
                                 const Product<const float>& from, ThreadPool* pool) const {
  const bool ternary = info_->format == WeightFormat::kTernary;
  std::array<float, 2> of_matrix{};
  for (int m = 0; ternary && m < from.parts; ++m) {
    const auto i = static_cast<std::size_t>(m);
    of_matrix[i] = ternary_scale(from.matrices[i], from.rows * layout.inputs);
  }
  run_pieces(pool, layout.panels, [&](std::int64_t panel) {
    const auto rows = rows_of_panel(from.matrices, from.parts, from.rows, layout.inputs, panel);
    float* of_panel = scales == nullptr ? nullptr : scales + panel * kPanelColumns;
    for (std::size_t c = 0; of_panel != nullptr && c < rows.size(); ++c) {
      const std::size_t part = c * static_cast<std::size_t>(from.parts) / rows.size();
      of_panel[c] = rows[c] == nullptr ? 0.0F
                    : ternary          ? of_matrix[part]
                              : usable_scale(pack_kernels().largest(rows[c], layout.inputs) / 127);
    }
    pack_kernels().pack(*info_, rows.data(), of_panel, layout.inputs,
                        base + panel * layout.panel_bytes);
  });
}

void PackedExperts::unpack_product(const char* base, const float* scales, const PanelLayout& layout,
                                   const Product<float>& to, ThreadPool* pool) const {
  run_pieces(pool, layout.panels, [&](std::int64_t panel) {
    const auto rows = rows_of_panel(to.matrices, to.parts, to.rows, layout.inputs, panel);
    pack_kernels().unpack(*info_, base + panel * layout.panel_bytes,
                          scales == nullptr ? nullptr : scales + panel * kPanelColumns,
                          layout.inputs, rows.data());
  });
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

void PackedExperts::pack(std::int64_t expert, const ExpertMatrices& from, ThreadPool* pool) {
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
    if (values != nullptr) check_values(*info_, name, expert, values, rows, columns, pool);
  };
  check("up", from.up, f, s.hidden_size);
  check("down", from.down, s.output_size, f);
  check("gate", from.gate, f, s.hidden_size);
  check("up_bias", from.up_bias, f, 0);
  check("down_bias", from.down_bias, s.output_size, 0);
  check("gate_bias", from.gate_bias, f, 0);

  std::byte* data = slab_.data() + expert * expert_bytes_;
  const std::int64_t vectors = down_.offset + down_.panels * down_.panel_bytes;  // after the panels
  std::memset(data + vectors, 0, static_cast<std::size_t>(expert_bytes_ - vectors));
  auto* up = reinterpret_cast<char*>(data + up_.offset);
  auto* down = reinterpret_cast<char*>(data + down_.offset);
  float* up_scales = up_scale_ < 0 ? nullptr : scale_ptr(data, up_scale_);
  float* down_scales = down_scale_ < 0 ? nullptr : scale_ptr(data, down_scale_);
  const Product<const float> first = gated ? Product<const float>{{from.gate, from.up}, 2, f}
                                           : Product<const float>{{from.up}, 1, f};
  pack_product(up, up_scales, up_, first, pool);
  pack_product(down, down_scales, down_, {{from.down}, 1, s.output_size}, pool);
  if (!s.bias) return;
  const std::int64_t block = gated ? kHalf : kPanelColumns;
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

void PackedExperts::unpack(std::int64_t expert, const MutableExpertMatrices& to,
                           ThreadPool* pool) const {
  MOEKIT_CHECK(expert >= 0 && expert < shape_.num_experts, "PackedExperts: expert ", expert,
               "; there are ", shape_.num_experts);
  const bool gated = is_gated(shape_.activation);
  const std::int64_t f = shape_.intermediate_size;
  const std::int64_t block = gated ? kHalf : kPanelColumns;
  const Product<float> first =
      gated ? Product<float>{{to.gate, to.up}, 2, f} : Product<float>{{to.up}, 1, f};
  unpack_product(panel(expert, up_, 0), up_scale(expert), up_, first, pool);
  unpack_product(panel(expert, down_, 0), down_scale(expert), down_,
                 {{to.down}, 1, shape_.output_size}, pool);
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
