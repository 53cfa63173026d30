#include "moekit/kernels/ffn/driver.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace moekit::kernels {

Workspace::Workspace() : buffers_(std::make_unique<Buffers>()) {}
Workspace::~Workspace() = default;
Workspace::Workspace(Workspace&&) noexcept = default;
Workspace& Workspace::operator=(Workspace&&) noexcept = default;

std::size_t Workspace::bytes() const {
  return buffers_->forward.size() + buffers_->backward.size() + buffers_->scratch.size() +
         buffers_->recomputed.bytes() + slab_.size();
}

namespace {

/// The table made for `isa` of one of each instruction set.
template <typename Table>
const Table& table_of(Isa isa, const Table* (*avx2)(), const Table* (*avx512)(),
                      const Table* (*avx512_vnni)(), const Table* (*avx512_amx)(),
                      const Table* (*neon)(), const Table* (*neon_dot)()) {
  const Table* table = nullptr;
  switch (isa) {
    case Isa::kAvx512Amx:
      table = avx512_amx();
      break;
    case Isa::kAvx512Vnni:
      table = avx512_vnni();
      break;
    case Isa::kAvx512:
      table = avx512();
      break;
    case Isa::kAvx2:
      table = avx2();
      break;
    case Isa::kNeonDot:
      table = neon_dot();
      break;
    case Isa::kNeon:
      table = neon();
      break;
    case Isa::kReference:
      break;
  }
  MOEKIT_CHECK(table != nullptr, "expert kernels: there are none for ", isa_name(isa));
  return *table;
}

}  // namespace

const FfnKernels& ffn_kernels(Isa isa) {
  return table_of(isa, ffn_kernels_avx2, ffn_kernels_avx512, ffn_kernels_avx512_vnni,
                  ffn_kernels_avx512_amx, ffn_kernels_neon, ffn_kernels_neon_dot);
}

const FfnBackwardKernels& ffn_backward_kernels(Isa isa) {
  // Beside tiles there is no backward pass of their own: bfloat16 widened, as the forward pass of
  // few rows there.
  return table_of(isa, ffn_backward_avx2, ffn_backward_avx512, ffn_backward_avx512_vnni,
                  ffn_backward_avx512, ffn_backward_neon, ffn_backward_neon_dot);
}

void check_execution(const Execution& execution) {
  MOEKIT_CHECK(execution.pool != nullptr && execution.workspace != nullptr,
               "expert kernels: an execution needs a pool and a workspace");
  for (const auto isa : {execution.paths.f32, execution.paths.bf16, execution.paths.int8}) {
    MOEKIT_CHECK(isa_supported(isa), "expert kernels: this machine lacks ", isa_name(isa));
  }
}

void check_finite(const Execution& execution, const char* name, const float* values,
                  std::int64_t rows, std::int64_t size) {
  if (!execution.check_finite) return;
  for (std::int64_t n = 0; n < rows; ++n) {
    const float* row = values + n * size;
    // Zero times a finite number is zero, and times any other one is not: no branch in the loop.
    constexpr std::int64_t kSums = 16;  // side by side: the compiler makes vectors of them
    float sums[kSums] = {};
    std::int64_t start = 0;
    for (; start + kSums <= size; start += kSums) {
      for (std::int64_t i = 0; i < kSums; ++i) sums[i] += row[start + i] * 0.0F;
    }
    for (std::int64_t i = start; i < size; ++i) sums[0] += row[i] * 0.0F;
    if (std::all_of(std::begin(sums), std::end(sums), [](float s) { return s == 0.0F; })) continue;
    for (std::int64_t i = 0; i < size; ++i) {
      MOEKIT_CHECK(std::isfinite(row[i]), "expert kernels: ", name, " ", n, " is ", row[i],
                   " at position ", i);
    }
  }
}

void check_plan(const RoutingPlan& plan, std::int64_t num_experts, std::int64_t num_tokens) {
  MOEKIT_CHECK(plan.num_experts == num_experts, "expert kernels: the plan chooses of ",
               plan.num_experts, " experts; the bank has ", num_experts);
  MOEKIT_CHECK(plan.num_tokens == num_tokens, "expert kernels: plans of ", plan.num_tokens, " and ",
               num_tokens, " tokens in one call");
  const auto rows = static_cast<std::size_t>(plan.num_rows());
  MOEKIT_CHECK(
      plan.offsets.size() == static_cast<std::size_t>(num_experts) + 1 &&
          plan.offsets.front() == 0 && std::is_sorted(plan.offsets.begin(), plan.offsets.end()) &&
          plan.token.size() == rows && plan.weight.size() == rows && plan.assignment.size() == rows,
      "expert kernels: the plan's offsets, tokens and weights do not fit together");
  for (const auto token : plan.token) {
    MOEKIT_CHECK(token >= 0 && token < num_tokens, "expert kernels: the plan has token ", token,
                 "; there are ", num_tokens);
  }
}

void convert_rows(const FfnKernels& kernels, ThreadPool& pool, const LeftBuffers& to,
                  std::int64_t group, const float* from, std::int64_t stride, std::int64_t columns,
                  std::int64_t rows) {
  if (to.rounded) {
    run_rows(pool, rows, [&](std::int64_t begin, std::int64_t end) {
      kernels.round_floats(from, stride, columns, begin, end, to.copy, to.stride);
    });
  } else if (to.copy != nullptr) {
    run_rows(pool, rows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        std::memcpy(to.copy + r * to.stride, from + r * stride,
                    static_cast<std::size_t>(columns) * sizeof(float));
      }
    });
  } else if (to.half != nullptr) {
    run_rows(pool, rows, [&](std::int64_t begin, std::int64_t end) {
      kernels.round_rows(from, stride, columns, begin, end, to.half, to.stride);
    });
  } else if (to.codes != nullptr) {
    run_rows(pool, rows, [&](std::int64_t begin, std::int64_t end) {
      kernels.quantize_rows(from, stride, columns, begin, end, to.codes, to.stride, to.scale,
                            to.sums, group);
    });
  }
}

const std::vector<ThreadScratch>& thread_scratch(Workspace::Buffers& buffers, int threads,
                                                 std::int64_t panel_rows) {
  // Bytes of each part, as ThreadScratch says; all are multiples of 64.
  constexpr std::int64_t kStep = 4 * kPanelColumns;
  constexpr std::int64_t kBlock = kBlockSteps * kStep;
  constexpr std::int64_t kSums = kRowBlock * kStep;
  constexpr std::int64_t kScales = kBlockSteps / 8 * kStep;
  const std::int64_t panel = panel_rows == 0 ? 0 : (panel_rows + 1) * kStep;
  const std::int64_t own = kBlock + kSums + kScales + kMatrixScratch + panel;
  buffers.scratch.reserve(static_cast<std::size_t>(threads * own));
  buffers.threads.resize(static_cast<std::size_t>(threads));
  auto* at = reinterpret_cast<char*>(buffers.scratch.data());
  for (auto& scratch : buffers.threads) {
    scratch.block = at;
    scratch.sums = reinterpret_cast<float*>(at + kBlock);
    scratch.scales = reinterpret_cast<float*>(at + kBlock + kSums);
    scratch.matrix = at + kBlock + kSums + kScales;
    scratch.panel = scratch.matrix + kMatrixScratch;
    scratch.follows_streams = follows_streams();
    at += own;
  }
  return buffers.threads;
}

MatrixView view_of(const PanelLayout& layout, const FormatInfo& info) {
  MatrixView view{};
  view.inputs = layout.inputs;
  view.steps = layout.padded_inputs / info.per_step;
  view.panels = layout.panels;
  view.panel_bytes = layout.panel_bytes;
  view.columns = layout.columns;
  view.offset = layout.offset;
  view.bias_offset = -1;
  view.scale_offset = -1;
  return view;
}

void view_plan(BankView& view, const RoutingPlan& plan) {
  view.num_tokens = plan.num_tokens;
  view.offsets = plan.offsets.data();
  view.token = plan.token.data();
  view.weight = plan.weight.data();
  view.active = plan.active.data();
  view.num_active = static_cast<std::int64_t>(plan.active.size());
}

void view_shape(BankView& view, const FfnShape& shape) {
  view.activation = shape.activation;
  view.gated = is_gated(shape.activation);
  view.hidden_size = shape.hidden_size;
  view.intermediate_size = shape.intermediate_size;
  view.output_size = shape.output_size;
  view.hidden_stride = spread_stride(shape.intermediate_size, kPanelColumns);
}

LeftRows hidden_rows(const BankView& view) {
  if (view.hidden16 != nullptr) {
    return {reinterpret_cast<const char*>(view.hidden16),
            view.hidden_stride * 2,
            nullptr,
            nullptr,
            nullptr,
            0};
  }
  return {reinterpret_cast<const char*>(view.hidden),
          view.hidden_stride * 4,
          nullptr,
          nullptr,
          nullptr,
          0};
}

void run_up(Workspace::Buffers& buffers, ThreadPool& pool) {
  const auto& views = buffers.views;
  const auto& scratch = buffers.threads;
  // Some 100 to 300 us: of multiply-adds where there are many rows, of reading where few. Within a
  // piece the next panel is fetched ahead, so that larger ones run faster.
  constexpr double kPieceWork = 1 << 25;   // multiply-adds
  constexpr double kPieceBytes = 2 << 20;  // of packed weights
  // In such pieces. Threads end together where the last ones are small: none is more than a share
  // of what is left.
  const auto panel_cost = [&](const BankView& view, std::int64_t rows) {
    const std::int64_t work = rows * view.up.steps * kPanelColumns;
    const std::int64_t bytes = view.up.inputs * kPanelColumns * view.weight_bits / 8;
    return std::max(static_cast<double>(work) / kPieceWork,
                    static_cast<double>(bytes) / kPieceBytes);
  };
  const auto rows_of = [](const BankView& view, std::int64_t i) {
    return view.offsets[view.active[i] + 1] - view.offsets[view.active[i]];
  };
  double left = 0;
  for (const auto& view : views) {
    for (std::int64_t i = 0; i < view.num_active; ++i) {
      left += panel_cost(view, rows_of(view, i)) * static_cast<double>(view.up.panels);
    }
  }
  const int threads = pool.num_threads();
  auto& pieces = buffers.pieces;
  pieces.clear();
  for (std::size_t b = 0; b < views.size(); ++b) {
    const auto& view = views[b];
    for (std::int64_t i = 0; i < view.num_active; ++i) {
      const double cost = panel_cost(view, rows_of(view, i));
      for (std::int64_t p = 0; p < view.up.panels;) {
        const double most = threads == 1 ? 1.0 : std::min(1.0, left / (2 * threads));
        const auto step = static_cast<std::int64_t>(most / cost);
        const std::int64_t end = std::min(view.up.panels, p + std::max<std::int64_t>(1, step));
        pieces.push_back({static_cast<std::int32_t>(b), static_cast<std::int32_t>(view.active[i]),
                          static_cast<std::int32_t>(p), static_cast<std::int32_t>(end)});
        left -= cost * static_cast<double>(end - p);
        p = end;
      }
    }
  }
  const UpPiece* of = pieces.data();
  pool.run(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i, int thread) {
    const auto& view = views[static_cast<std::size_t>(of[i].bank)];
    view.kernels->up(view, of[i].expert, of[i].begin, of[i].end,
                     scratch[static_cast<std::size_t>(thread)]);
  });
}

void clear_panel(float* rows, std::int64_t count, std::int64_t columns, std::int64_t panel) {
  const std::int64_t begin = panel * kPanelColumns;
  const auto bytes =
      static_cast<std::size_t>(std::min(kPanelColumns, columns - begin)) * sizeof(float);
  for (std::int64_t r = 0; r < count; ++r) std::memset(rows + r * columns + begin, 0, bytes);
}

void run_down(const std::vector<BankView>& views, float* output, ThreadPool& pool,
              const std::vector<ThreadScratch>& scratch) {
  const std::int64_t columns = views.front().output_size;
  const std::int64_t tokens = views.front().num_tokens;
  pool.run(count_panels(columns), [&](std::int64_t panel, int thread) {
    clear_panel(output, tokens, columns, panel);
    for (const auto& view : views) {
      view.kernels->down(view, output, panel, scratch[static_cast<std::size_t>(thread)]);
    }
  });
}

}  // namespace moekit::kernels
