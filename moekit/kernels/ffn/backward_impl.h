// The backward pass.
#pragma once

#include <cstdint>
#include <cstring>

#include "moekit/kernels/ffn/forward_impl.h"

namespace moekit::kernels {
namespace {

/// Keeps hidden gradients as the left operand that the next product takes, where that is not
/// floats.
template <typename I, Rows form>
MOEKIT_INLINE void keep_rounded(std::uint16_t* pairs, float* floats, std::int64_t at,
                                const typename I::Float& value) {
  if constexpr (form == Rows::kPairs) store(pairs + at, round_to_bf16<I>(value));
  if constexpr (form == Rows::kRounded) store(floats + at, rounded<I>(value));
}

/// Gradients of gate and up values of one panel of hidden columns: dh' = dy Wd; dh = w dh'.
template <typename I, Rows form>
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
  const RowSource<I, form> source{matrix, f, o, columns};
  const bool last = p + 1 == view.hidden_panels;
  const RowSource<I, form> then{last ? nullptr : matrix + kPanelColumns, f, o, columns};
  const std::int64_t steps = form == Rows::kPairs ? (o + 1) / 2 : o;
  // Kept values are there for whole panels of the forward pass: 32 columns where it is gated.
  const std::int64_t width = bank.gated ? kHalfPanel : kPanelColumns;
  const std::int64_t filled = ceil_div(columns, width) * width;
  using Op = Product<I, form>;
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
        // Where the first product overflows, the other order: the derivative may be 0.
        const F of_value = scaled * up_value;
        const F grad_gate =
            of_value * 0.0F == F{} ? of_value * derivative : scaled * derivative * up_value;
        const F grad_up = scaled * value;
        store(view.grad_gate + at + c, grad_gate);
        store(view.grad_up + at + c, grad_up);
        keep_rounded<I, form>(view.grad_gate16, view.grad_gate_rounded, at + c, grad_gate);
        keep_rounded<I, form>(view.grad_up16, view.grad_up_rounded, at + c, grad_up);
        value *= up_value;
      } else {
        activate<I>(bank.activation, load<F>(bank.kept_up + at + c), value, derivative);
        const F grad_up = scaled * derivative;
        store(view.grad_up + at + c, grad_up);
        keep_rounded<I, form>(view.grad_up16, view.grad_up_rounded, at + c, grad_up);
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
    grad_hidden_as<I, rows_of<I, true>()>(view, expert, panel, scratch);
  } else {
    grad_hidden_as<I, rows_of<I, false>()>(view, expert, panel, scratch);
  }
}

/// [tile of 6 outputs][step][6] out of rows of values; zeros beyond the last output and row.
template <typename I, Rows form, typename Row>
MOEKIT_INLINE void pack_left_as(const Row& row_at, std::int64_t rows, std::int64_t width,
                                char* to) {
  constexpr std::int64_t per = form == Rows::kPairs ? 2 : 1;
  const std::int64_t steps = ceil_div(rows, per);
  const std::int64_t tile_bytes = steps * kTileRows * 4;
  const auto half = [](float value) MOEKIT_LAMBDA {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return value == value ? (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16 : 0x7fc0U;
  };
  for (std::int64_t s = 0; s < steps; ++s) {
    const float* low = row_at(s * per);
    const float* high = per == 2 && s * per + 1 < rows ? row_at(s * per + 1) : nullptr;
    char* out = to + s * kTileRows * 4;
    if constexpr (form == Rows::kRounded) {
      // Vectors first, tiles out of them: six values at a time would be rounded one by one.
      constexpr std::int64_t kPart = 16 * kTileRows;
      for (std::int64_t i = 0; i < width; i += kPart) {
        const std::int64_t valid = min_of(kPart, width - i);
        float part[kPart];
        round_floats<I>(low + i, 0, valid, 0, 1, part, kPart);
        for (std::int64_t j = 0; j < valid; j += kTileRows, out += tile_bytes) {
          std::memcpy(out, part + j, kTileRows * 4);
        }
      }
      continue;
    }
    for (std::int64_t i = 0; i < width; i += kTileRows, out += tile_bytes) {
      const std::int64_t valid = min_of(kTileRows, width - i);
      if constexpr (form == Rows::kFloat) {
        if (valid == kTileRows) {
          std::memcpy(out, low + i, kTileRows * 4);
        } else {
          std::memset(out, 0, kTileRows * 4);
          std::memcpy(out, low + i, static_cast<std::size_t>(valid) * 4);
        }
      } else {
        std::uint32_t words[kTileRows] = {};
        for (std::int64_t j = 0; j < valid; ++j) {
          words[j] = half(low[i + j]) | (high == nullptr ? 0 : half(high[i + j]) << 16);
        }
        std::memcpy(out, words, sizeof(words));
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
  char* to = (which == 0  ? view.left_gate
              : of_output ? view.left_down
                          : view.left_up) +
             view.first_step[expert] * padded * 4;
  const float* rows = which == 0 ? view.grad_gate : view.grad_up;
  const auto row_at = [&](std::int64_t r) MOEKIT_LAMBDA {
    return of_output ? view.grad_output_f32 + bank.token[first + r] * width
                     : rows + (first + r) * bank.hidden_stride;
  };
  if (bank.product == ProductKind::kBf16) {
    pack_left_as<I, rows_of<I, true>()>(row_at, count, width, to);
  } else {
    pack_left_as<I, rows_of<I, false>()>(row_at, count, width, to);
  }
  float* bias = which == 0  ? view.grad.gate_bias
                : of_output ? view.grad.down_bias
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

/// Where in scratch.panel, which has a step to spare, a panel for these gradients starts. A load
/// that follows a store to the same place within 4 KiB waits for it: the processor compares the low
/// 12 bits first. stream_tile() loads the panel right after storing the part before, and without
/// this distance a whole training pass took a fifth longer (Zen 3).
template <typename I>
MOEKIT_INLINE char* panel_apart(char* room, const float* grad, const float* other) {
  constexpr std::uintptr_t part = std::uintptr_t{I::kTileVectors} * I::kLanes * 4;
  const auto distance = [](const char* from, const float* to) MOEKIT_LAMBDA {
    return (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from)) %
           kStepBytes;
  };
  char* panel = room + distance(room, grad) / 64 * 64;
  // A part of a whole step (AVX-512) meets its stores at any distance.
  const bool collides = part < kStepBytes && other != nullptr && distance(panel, other) == part;
  return collides ? room + (panel - room + 64) % kStepBytes : panel;
}

/// 64 columns of a weight's gradient: left [width, rows] times `panel`.
template <typename I, typename Op>
MOEKIT_INLINE void weight_panel(const char* left, const char* panel, std::int64_t width,
                                std::int64_t steps, float* grad, std::int64_t stride,
                                std::int64_t columns, const ThreadScratch& scratch) {
  const bool aligned = columns == kPanelColumns && stride % 16 == 0 &&
                       reinterpret_cast<std::uintptr_t>(grad) % 64 == 0;
  for (std::int64_t i = 0; i < width; i += kTileRows) {
    const auto rows = static_cast<int>(min_of(kTileRows, width - i));
    const auto* tile_left = reinterpret_cast<const std::uint32_t*>(left + i * steps * 4);
    if (aligned) {
      each<kTileRows>([&](auto r) MOEKIT_LAMBDA {
        if (rows == r + 1) {
          stream_tile<I, Op, r + 1>(tile_left, panel, steps,
                                    reinterpret_cast<char*>(grad + i * stride), stride * 4);
        }
      });
      continue;
    }
    const std::uint32_t* a[kTileRows];
    for (int r = 0; r < rows; ++r) a[r] = tile_left + r;
    char* c = reinterpret_cast<char*>(scratch.sums);
    Prefetch none;
    tile_rows<I, Op, kTileRows, 0>(rows, a, panel, kStepBytes, steps, c, true, none);
    for (int r = 0; r < rows; ++r) {
      std::memcpy(grad + (i + r) * stride, scratch.sums + r * kPanelColumns,
                  static_cast<std::size_t>(columns) * sizeof(float));
    }
  }
}

template <typename I, Rows form>
MOEKIT_INLINE void grad_weights_as(const BackwardView& view, std::int64_t expert, bool down,
                                   std::int64_t p, const ThreadScratch& scratch) {
  using Op = Product<I, form>;
  constexpr std::int64_t per = form == Rows::kPairs ? 2 : 1;
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
  char* panel = panel_apart<I>(scratch.panel, down ? view.grad.down : view.grad.up,
                               down ? nullptr : view.grad.gate);
  for (std::int64_t s = 0; s < steps; ++s) {
    write_step<I, form>(panel + s * kStepBytes, row_at(s * per),
                        per == 2 && s * 2 + 1 < count ? row_at(s * 2 + 1) : nullptr, columns);
  }
  const auto run = [&](const char* left, std::int64_t width, float* grad) MOEKIT_LAMBDA {
    const std::int64_t padded = ceil_div(width, kTileRows) * kTileRows;
    weight_panel<I, Op>(left + view.first_step[expert] * padded * 4, panel, width, steps,
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
    grad_weights_as<I, rows_of<I, true>()>(view, expert, down, panel, scratch);
  } else {
    grad_weights_as<I, rows_of<I, false>()>(view, expert, down, panel, scratch);
  }
}

template <typename I, Rows form>
MOEKIT_INLINE void grad_tokens_as(const BackwardView& view, std::int64_t p,
                                  const ThreadScratch& scratch) {
  using Op = Product<I, form>;
  const BankView& bank = view.bank;
  const std::int64_t f = bank.intermediate_size;
  const std::int64_t d = bank.hidden_size;
  const std::int64_t columns = min_of(kPanelColumns, d - p * kPanelColumns);
  const std::int64_t steps = form == Rows::kPairs ? (f + 1) / 2 : f;
  const auto source_of = [&](const float* stack, std::int64_t expert) MOEKIT_LAMBDA {
    return RowSource<I, form>{stack + expert * f * d + p * kPanelColumns, d, f, columns};
  };
  const auto left_of = [&](const float* rows, const float* rounded_rows,
                           const std::uint16_t* pairs) MOEKIT_LAMBDA {
    LeftRows left{};
    left.data = form == Rows::kPairs     ? reinterpret_cast<const char*>(pairs)
                : form == Rows::kRounded ? reinterpret_cast<const char*>(rounded_rows)
                                         : reinterpret_cast<const char*>(rows);
    left.row_bytes = bank.hidden_stride * (form == Rows::kPairs ? 2 : 4);
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
    const auto following = source_of(bank.gated ? bank.parameters.gate : bank.parameters.up,
                                     last ? expert : bank.active[i + 1]);
    if (bank.gated) {
      const auto gate = source_of(bank.parameters.gate, expert);
      run_panel<I, Op>(left_of(view.grad_gate, view.grad_gate_rounded, view.grad_gate16), first,
                       count, steps, gate, source, steps, scratch, finish);
    }
    run_panel<I, Op>(left_of(view.grad_up, view.grad_up_rounded, view.grad_up16), first, count,
                     steps, source, following, last ? 0 : steps, scratch, finish);
  }
}

template <typename I>
void grad_tokens(const BackwardView& view, std::int64_t panel, const ThreadScratch& scratch) {
  if (view.bank.product == ProductKind::kBf16) {
    grad_tokens_as<I, rows_of<I, true>()>(view, panel, scratch);
  } else {
    grad_tokens_as<I, rows_of<I, false>()>(view, panel, scratch);
  }
}

template <typename I>
constexpr FfnBackwardKernels make_backward_kernels() {
  return {rows_of<I, true>() == Rows::kRounded, grad_hidden<I>, pack_left<I>, grad_weights<I>,
          grad_tokens<I>};
}

}  // namespace
}  // namespace moekit::kernels
