// The forward pass: hidden values, outputs, and operands in the form that products take.
#pragma once

#include <cstdint>
#include <cstring>

#include "moekit/kernels/ffn/panel_impl.h"

namespace moekit::kernels {
namespace {

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
    if (bank.hidden16 != nullptr) {
      store(bank.hidden16 + at + c, round_to_bf16<I>(value));
    } else if (bank.hidden != nullptr) {  // neither where gate and up values alone are wanted
      store(bank.hidden + at + c, bank.product == ProductKind::kBf16 ? rounded<I>(value) : value);
    }
  }
}

/// A panel's 64 biases or scales in an expert's packed memory; null where there are none.
MOEKIT_INLINE const float* panel_vector(const char* expert_data, std::int64_t offset,
                                        std::int64_t panel) {
  if (offset < 0) return nullptr;
  const auto* values = reinterpret_cast<const float*>(expert_data + offset) + panel * kPanelColumns;
  // They are wanted behind the panel's products, and lie apart from its codes.
  for (std::int64_t c = 0; c < kPanelColumns; c += 16) __builtin_prefetch(values + c, 0, 3);
  return values;
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

template <typename I, Rows form>
MOEKIT_INLINE TransposedSource<I, form> up_source(const BankView& bank, std::int64_t expert,
                                                  std::int64_t panel) {
  const std::int64_t d = bank.hidden_size;
  const std::int64_t f = bank.intermediate_size;
  const std::int64_t width = bank.gated ? kHalfPanel : kPanelColumns;
  const std::int64_t at = (expert * f + panel * width) * d;
  const auto& p = bank.parameters;
  return {(bank.gated ? p.gate : p.up) + at, bank.gated ? p.up + at : nullptr, d,
          min_of(width, f - panel * width)};
}

template <typename I, Rows form>
MOEKIT_INLINE TransposedSource<I, form> down_source(const BankView& bank, std::int64_t expert,
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
                                 p + 1 < end ? bank.up.steps : 0, scratch, finish, bank.group / 4);
    };
    if (bank.weights != nullptr) {
      const char* expert_data = bank.weights + expert * bank.expert_bytes;
      const char* panel = expert_data + bank.up.offset + p * bank.up.panel_bytes;
      with_packed<I>(bank.product, panel, panel + bank.up.panel_bytes, bank.group / 4,
                     [&](auto op, const auto& source, const auto& then) MOEKIT_LAMBDA {
                       run(op, source, then, panel_vector(expert_data, bank.up.bias_offset, p),
                           panel_vector(expert_data, bank.up.scale_offset, p));
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
        constexpr Rows kRows = rows_of<I, true>();
        run(Product<I, kRows>{}, up_source<I, kRows>(bank, expert, p),
            up_source<I, kRows>(bank, expert, next), bias, nullptr);
      } else {
        run(typename I::F32{}, up_source<I, Rows::kFloat>(bank, expert, p),
            up_source<I, Rows::kFloat>(bank, expert, next), bias, nullptr);
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
      with_packed<I>(bank.product, data + at, bank.weights + following * bank.expert_bytes + at,
                     bank.group / 4,
                     [&](auto op, const auto& source, const auto& then) MOEKIT_LAMBDA {
                       run(op, source, then, panel_vector(data, bank.down.bias_offset, p),
                           panel_vector(data, bank.down.scale_offset, p));
                     });
    } else {
      const float* bias = bank.parameters.down_bias;
      bias = bias_of_panel(bias == nullptr ? nullptr : bias + expert * bank.output_size, nullptr,
                           bank.output_size, p, buffer);
      if (bank.product == ProductKind::kBf16) {
        constexpr Rows kRows = rows_of<I, true>();
        run(Product<I, kRows>{}, down_source<I, kRows>(bank, expert, p),
            down_source<I, kRows>(bank, following, p), bias, nullptr);
      } else {
        run(typename I::F32{}, down_source<I, Rows::kFloat>(bank, expert, p),
            down_source<I, Rows::kFloat>(bank, following, p), bias, nullptr);
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

/// The same, as floats.
template <typename I>
void round_floats(const float* from, std::int64_t stride, std::int64_t columns, std::int64_t begin,
                  std::int64_t end, float* to, std::int64_t to_stride) {
  using F = typename I::Float;
  for (std::int64_t r = begin; r < end; ++r) {
    const float* row = from + r * stride;
    float* out = to + r * to_stride;
    std::int64_t c = 0;
    for (; c + I::kLanes <= columns; c += I::kLanes) {
      store(out + c, rounded<I>(load<F>(row + c)));
    }
    F rest{};
    std::memcpy(&rest, row + c, static_cast<std::size_t>(columns - c) * sizeof(float));
    const F last = rounded<I>(rest);
    std::memcpy(out + c, &last, static_cast<std::size_t>(columns - c) * sizeof(float));
    std::memset(out + columns, 0, static_cast<std::size_t>(to_stride - columns) * sizeof(float));
  }
}

template <typename I>
void quantize_rows(const float* from, std::int64_t stride, std::int64_t columns, std::int64_t begin,
                   std::int64_t end, std::int8_t* to, std::int64_t to_stride, float* scale,
                   std::int32_t* sums, std::int64_t group) {
  using F = typename I::Float;
  const std::int64_t groups = group == 0 ? 1 : to_stride / group;
  const std::int64_t group_size = group == 0 ? to_stride : group;
  for (std::int64_t r = begin; r < end; ++r) {
    const float* row = from + r * stride;
    std::int8_t* out = to + r * to_stride;
    F most{};
    F not_finite{};  // 0, or NaN: a code cannot say so, the row's scale can
    std::int64_t c = 0;
    for (; c + I::kLanes <= columns; c += I::kLanes) {
      const F x = load<F>(row + c);
      const F size = x < F{} ? -x : x;
      most = size > most ? size : most;
      not_finite += x * 0.0F;
    }
    float largest = 0;
    float spoilt = 0;
    for (int l = 0; l < I::kLanes; ++l) {
      largest = most[l] > largest ? most[l] : largest;
      spoilt += not_finite[l];
    }
    for (; c < columns; ++c) {
      const float size = row[c] < 0 ? -row[c] : row[c];
      largest = size > largest ? size : largest;
      spoilt += row[c] * 0.0F;
    }
    scale[r] = largest / 127 + spoilt;
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

}  // namespace
}  // namespace moekit::kernels
