#include "moekit/kernels/expert_ffn.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "moekit/core/error.h"
#include "moekit/kernels/expert_ffn_kernels.h"
#include "moekit/kernels/expert_ffn_ref.h"

namespace moekit::kernels {
namespace {

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Cuts one slab into 64-byte aligned arrays: first add() for each, then place() for all.
class Arena {
 public:
  template <typename T>
  void add(T*& pointer, std::int64_t count) {
    MOEKIT_CHECK(used_ < places_.size(), "expert kernels: more than ", places_.size() / 4 - 3,
                 " banks in one call");
    places_[used_++] = {reinterpret_cast<void**>(&pointer), bytes_};
    bytes_ += round_up(count * static_cast<std::int64_t>(sizeof(T)), 64);
  }
  void place(Slab& slab) const {
    slab.reserve(static_cast<std::size_t>(bytes_));
    for (std::size_t i = 0; i < used_; ++i) *places_[i].pointer = slab.data() + places_[i].offset;
  }

 private:
  struct Place {
    void** pointer;
    std::int64_t offset;
  };
  std::array<Place, 64> places_{};
  std::size_t used_ = 0;
  std::int64_t bytes_ = 0;
};

/// A row's stride that no power of two divides far: rows 8 KiB apart would share few cache sets.
std::int64_t spread_stride(std::int64_t size, std::int64_t multiple = 32) {
  return round_up(size, multiple) + multiple;
}

/// The rows of a left operand, copied into memory of the workspace: spread, and rounded.
struct LeftBuffers {
  float* copy = nullptr;
  std::uint16_t* half = nullptr;
  std::int8_t* codes = nullptr;
  float* scale = nullptr;
  std::int32_t* sums = nullptr;
  std::int64_t stride = 0;
  std::int64_t groups = 0;

  void reserve(Arena& arena, ProductKind product, std::int64_t group, std::int64_t rows,
               std::int64_t padded) {
    stride = spread_stride(padded, std::max<std::int64_t>(64, group));
    if (product == ProductKind::kF32) {
      arena.add(copy, rows * stride);
    } else if (product == ProductKind::kBf16) {
      arena.add(half, rows * stride);
    } else {
      groups = group > 0 ? stride / group : 1;
      arena.add(codes, rows * stride);
      arena.add(scale, rows);
      arena.add(sums, rows * groups);
    }
  }
  LeftRows rows(const std::int32_t* index) const {
    if (copy != nullptr) {
      return {reinterpret_cast<const char*>(copy), stride * 4, index, nullptr, nullptr, 0};
    }
    if (half != nullptr) {
      return {reinterpret_cast<const char*>(half), stride * 2, index, nullptr, nullptr, 0};
    }
    return {reinterpret_cast<const char*>(codes), stride, index, scale, sums, groups};
  }
};

/// What a bank's two products take on the left.
struct Operands {
  LeftBuffers tokens;
  LeftBuffers hidden;
  std::size_t tokens_of;  ///< the bank that holds the tokens in this form
};

/// Panels of experts, so cut that every thread gets several pieces of about the same work; a piece
/// stays within one expert.
struct UpPiece {
  std::int32_t bank;
  std::int32_t expert;
  std::int32_t begin;
  std::int32_t end;
};

}  // namespace

struct Workspace::Buffers {
  Slab forward;
  Slab backward;
  Slab scratch;
  FfnTape recomputed;
  std::vector<ThreadScratch> threads;
  std::vector<BankView> views;
  std::vector<Operands> operands;
  std::vector<UpPiece> pieces;
  std::vector<std::int64_t> first_step;
};

Workspace::Workspace() : buffers_(std::make_unique<Buffers>()) {}
Workspace::~Workspace() = default;
Workspace::Workspace(Workspace&&) noexcept = default;
Workspace& Workspace::operator=(Workspace&&) noexcept = default;

std::size_t Workspace::bytes() const {
  return buffers_->forward.size() + buffers_->backward.size() + buffers_->scratch.size() +
         buffers_->recomputed.bytes();
}

const FfnKernels& ffn_kernels(Isa isa) {
  const FfnKernels* kernels = nullptr;
  switch (isa) {
    case Isa::kAvx512Vnni:
      kernels = ffn_kernels_avx512_vnni();
      break;
    case Isa::kAvx512:
      kernels = ffn_kernels_avx512();
      break;
    case Isa::kAvx2:
      kernels = ffn_kernels_avx2();
      break;
    case Isa::kReference:
      break;
  }
  MOEKIT_CHECK(kernels != nullptr, "expert kernels: there are none for ", isa_name(isa));
  return *kernels;
}

namespace {

void check_execution(const Execution& execution) {
  MOEKIT_CHECK(execution.pool != nullptr && execution.workspace != nullptr,
               "expert kernels: an execution needs a pool and a workspace");
  MOEKIT_CHECK(isa_supported(execution.isa), "expert kernels: this machine lacks ",
               isa_name(execution.isa));
}

void check_finite(const Execution& execution, const char* name, const float* values,
                  std::int64_t rows, std::int64_t size) {
  if (!execution.check_finite) return;
  for (std::int64_t n = 0; n < rows; ++n) {
    const float* row = values + n * size;
    // Zero times a finite number is zero, and times any other one is not: no branch in the loop.
    constexpr std::int64_t kSums = 16;
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

ProductKind product_of(const FormatInfo& info) {
  if (info.group > 0) return ProductKind::kInt4;
  switch (info.format) {
    case WeightFormat::kF32:
      return ProductKind::kF32;
    case WeightFormat::kBf16:
      return ProductKind::kBf16;
    case WeightFormat::kTernary:
      return ProductKind::kTernary;
    default:
      return ProductKind::kInt8;
  }
}

/// Rows in pieces that a thread takes at once.
template <typename Convert>
void run_rows(ThreadPool& pool, std::int64_t rows, const Convert& convert) {
  constexpr std::int64_t kPiece = 32;
  pool.run((rows + kPiece - 1) / kPiece, [&](std::int64_t piece, int) {
    convert(piece * kPiece, std::min(rows, (piece + 1) * kPiece));
  });
}

void convert_rows(const FfnKernels& kernels, ThreadPool& pool, const LeftBuffers& to,
                  std::int64_t group, const float* from, std::int64_t stride, std::int64_t columns,
                  std::int64_t rows) {
  if (to.copy != nullptr) {
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
  constexpr std::int64_t kStep = 4 * kPanelColumns;
  constexpr std::int64_t kBlock = kBlockSteps * kStep;
  constexpr std::int64_t kSums = kRowBlock * kStep;
  constexpr std::int64_t kScales = kBlockSteps / 8 * kStep;
  const std::int64_t own = kBlock + kSums + kScales + panel_rows * kStep;
  buffers.scratch.reserve(static_cast<std::size_t>(threads * own));
  buffers.threads.resize(static_cast<std::size_t>(threads));
  auto* at = reinterpret_cast<char*>(buffers.scratch.data());
  for (auto& scratch : buffers.threads) {
    scratch.block = at;
    scratch.sums = reinterpret_cast<float*>(at + kBlock);
    scratch.scales = reinterpret_cast<float*>(at + kBlock + kSums);
    scratch.panel = at + kBlock + kSums + kScales;
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

/// Hidden values as a left operand, where they are written as one.
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

std::int64_t offset_from(const char* base, const float* pointer) {
  return pointer == nullptr ? -1 : reinterpret_cast<const char*>(pointer) - base;
}

BankView view_bank(const FfnBank& bank) {
  const PackedExperts& experts = *bank.experts;
  BankView view{};
  view_shape(view, experts.shape());
  view_plan(view, *bank.plan);
  view.product = product_of(experts.info());
  view.weight_bits = experts.info().code_bits;
  view.group = experts.info().group;
  view.weights = experts.panel(0, experts.up_layout(), 0);  // the slab's start
  view.expert_bytes = experts.expert_bytes();
  view.up = view_of(experts.up_layout(), experts.info());
  view.down = view_of(experts.down_layout(), experts.info());
  view.up.bias_offset = offset_from(view.weights, experts.up_bias(0));
  view.down.bias_offset = offset_from(view.weights, experts.down_bias(0));
  view.up.scale_offset = offset_from(view.weights, experts.up_scale(0));
  view.down.scale_offset = offset_from(view.weights, experts.down_scale(0));
  return view;
}

void run_up(const FfnKernels& kernels, Workspace::Buffers& buffers, ThreadPool& pool) {
  const auto& views = buffers.views;
  const auto& scratch = buffers.threads;
  // Some 100 to 300 us: of multiply-adds where there are many rows, of reading where few. Within a
  // piece the next panel is fetched ahead, so that larger ones run faster.
  constexpr std::int64_t kPieceWork = std::int64_t{1} << 25;
  constexpr std::int64_t kPieceBytes = std::int64_t{2} << 20;
  auto& pieces = buffers.pieces;
  pieces.clear();
  for (std::size_t b = 0; b < views.size(); ++b) {
    const auto& view = views[b];
    for (std::int64_t i = 0; i < view.num_active; ++i) {
      const std::int64_t expert = view.active[i];
      const std::int64_t rows = view.offsets[expert + 1] - view.offsets[expert];
      const std::int64_t panel_work = rows * view.up.steps * kPanelColumns;
      const std::int64_t panel_bytes = view.up.inputs * kPanelColumns * view.weight_bits / 8;
      const std::int64_t step = std::clamp<std::int64_t>(
          std::min(kPieceWork / panel_work, kPieceBytes / panel_bytes), 1, view.up.panels);
      for (std::int64_t p = 0; p < view.up.panels; p += step) {
        pieces.push_back({static_cast<std::int32_t>(b), static_cast<std::int32_t>(expert),
                          static_cast<std::int32_t>(p),
                          static_cast<std::int32_t>(std::min(view.up.panels, p + step))});
      }
    }
  }
  const UpPiece* of = pieces.data();
  pool.run(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i, int thread) {
    kernels.up(views[static_cast<std::size_t>(of[i].bank)], of[i].expert, of[i].begin, of[i].end,
               scratch[static_cast<std::size_t>(thread)]);
  });
}

void run_down(const FfnKernels& kernels, const std::vector<BankView>& views, float* output,
              ThreadPool& pool, const std::vector<ThreadScratch>& scratch) {
  const std::int64_t columns = views.front().output_size;
  const std::int64_t tokens = views.front().num_tokens;
  pool.run((columns + kPanelColumns - 1) / kPanelColumns, [&](std::int64_t panel, int thread) {
    const std::int64_t begin = panel * kPanelColumns;
    const auto bytes =
        static_cast<std::size_t>(std::min(kPanelColumns, columns - begin)) * sizeof(float);
    for (std::int64_t n = 0; n < tokens; ++n) std::memset(output + n * columns + begin, 0, bytes);
    for (const auto& view : views) {
      kernels.down(view, output, panel, scratch[static_cast<std::size_t>(thread)]);
    }
  });
}

}  // namespace

void expert_ffn_forward(const std::vector<FfnBank>& banks, const float* tokens, float* output,
                        const Execution& execution) {
  check_execution(execution);
  MOEKIT_CHECK(!banks.empty(), "expert kernels: no bank given");
  const FfnShape& first = banks.front().experts->shape();
  const std::int64_t n = banks.front().plan->num_tokens;
  for (const auto& bank : banks) {
    const FfnShape& s = bank.experts->shape();
    MOEKIT_CHECK(s.hidden_size == first.hidden_size && s.output_size == first.output_size,
                 "expert kernels: banks of ", first.hidden_size, " to ", first.output_size, " and ",
                 s.hidden_size, " to ", s.output_size, " values in one call");
    check_plan(*bank.plan, s.num_experts, n);
  }
  check_finite(execution, "token", tokens, n, first.hidden_size);
  if (execution.isa == Isa::kReference) return reference_forward(banks, tokens, output);

  const FfnKernels& kernels = ffn_kernels(execution.isa);
  auto& buffers = execution.workspace->buffers();
  ThreadPool& pool = *execution.pool;
  auto& views = buffers.views;
  views.clear();
  for (const auto& bank : banks) views.push_back(view_bank(bank));
  // Shared experts most often have the routed ones' format: their tokens are rounded once.
  auto& operands = buffers.operands;
  operands.assign(banks.size(), {});
  Arena arena;
  for (std::size_t b = 0; b < banks.size(); ++b) {
    auto& view = views[b];
    auto& operand = operands[b];
    const std::int64_t rows = banks[b].plan->num_rows();
    operand.tokens_of = b;
    for (std::size_t before = 0; before < b; ++before) {
      if (banks[before].experts->format() == banks[b].experts->format()) {
        operand.tokens_of = operands[before].tokens_of;
        break;
      }
    }
    if (operand.tokens_of == b) {
      operand.tokens.reserve(arena, view.product, view.group, n,
                             banks[b].experts->up_layout().padded_inputs);
    }
    if (view.product == ProductKind::kF32) {
      arena.add(view.hidden, rows * view.hidden_stride);
    } else if (view.product == ProductKind::kBf16) {
      arena.add(view.hidden16, rows * view.hidden_stride);
    } else {
      arena.add(view.hidden, rows * view.hidden_stride);
      operand.hidden.reserve(arena, view.product, view.group, rows,
                             banks[b].experts->down_layout().padded_inputs);
    }
  }
  arena.place(buffers.forward);
  const auto& scratch = thread_scratch(buffers, pool.num_threads(), 0);
  for (std::size_t b = 0; b < banks.size(); ++b) {
    auto& view = views[b];
    const auto& operand = operands[b];
    const auto& token_buffers = operands[operand.tokens_of].tokens;
    if (operand.tokens_of == b) {
      convert_rows(kernels, pool, token_buffers, view.group, tokens, view.hidden_size,
                   view.hidden_size, n);
    }
    view.tokens = token_buffers.rows(view.token);
    view.hidden_left =
        operand.hidden.codes != nullptr ? operand.hidden.rows(nullptr) : hidden_rows(view);
  }
  run_up(kernels, buffers, pool);
  for (std::size_t b = 0; b < banks.size(); ++b) {
    if (operands[b].hidden.codes == nullptr) continue;
    convert_rows(kernels, pool, operands[b].hidden, views[b].group, views[b].hidden,
                 views[b].hidden_stride, views[b].intermediate_size, banks[b].plan->num_rows());
  }
  run_down(kernels, views, output, pool, scratch);
}

namespace {

void check_train_bank(const TrainBank& bank, const Execution& execution) {
  check_execution(execution);
  check_shape(bank.shape);
  MOEKIT_CHECK(bank.plan != nullptr, "expert kernels: a bank needs a plan");
  const bool gated = is_gated(bank.shape.activation);
  const auto& p = bank.parameters;
  MOEKIT_CHECK(p.up != nullptr && p.down != nullptr && (p.gate != nullptr) == gated &&
                   (p.up_bias != nullptr) == bank.shape.bias &&
                   (p.down_bias != nullptr) == bank.shape.bias &&
                   (p.gate_bias != nullptr) == (bank.shape.bias && gated),
               "expert kernels: parameters do not fit the shape: activation ",
               activation_name(bank.shape.activation), ", bias = ", bank.shape.bias);
  check_plan(*bank.plan, bank.shape.num_experts, bank.plan->num_tokens);
}

/// The view of a bank on unpacked parameters; operands are still missing.
BankView view_train_bank(const TrainBank& bank) {
  BankView view{};
  view_shape(view, bank.shape);
  view_plan(view, *bank.plan);
  view.parameters = bank.parameters;
  const bool bf16 = bank.compute == ComputeType::kBf16;
  view.product = bf16 ? ProductKind::kBf16 : ProductKind::kF32;
  const FormatInfo& info = format_info(bf16 ? WeightFormat::kBf16 : WeightFormat::kF32);
  view.weight_bits = 32;
  const std::int64_t up_columns =
      view.gated ? 2 * round_up(view.intermediate_size, kPanelColumns / 2) : view.intermediate_size;
  view.up = view_of(make_panel_layout(view.hidden_size, up_columns, info, 0), info);
  view.down = view_of(make_panel_layout(view.intermediate_size, view.output_size, info, 0), info);
  return view;
}

/// Points a view at the values that the tape keeps, as many as the plan has rows.
void use_tape(BankView& view, const TrainBank& bank, FfnTape& tape) {
  tape.memory().reserve(tape_bytes(bank.shape, bank.plan->num_rows()));
  auto* values = reinterpret_cast<float*>(tape.memory().data());
  view.kept_up = values;
  if (view.gated) view.kept_gate = values + bank.plan->num_rows() * view.hidden_stride;
}

}  // namespace

std::size_t tape_bytes(const FfnShape& shape, std::int64_t num_rows) {
  BankView view{};
  view_shape(view, shape);
  return static_cast<std::size_t>(num_rows * view.hidden_stride * (view.gated ? 2 : 1)) *
         sizeof(float);
}

void expert_ffn_train_forward(const TrainBank& bank, const float* tokens, float* output,
                              FfnTape* tape, const Execution& execution) {
  check_train_bank(bank, execution);
  const std::int64_t n = bank.plan->num_tokens;
  check_finite(execution, "token", tokens, n, bank.shape.hidden_size);
  if (execution.isa == Isa::kReference) return reference_train_forward(bank, tokens, output);

  const FfnKernels& kernels = ffn_kernels(execution.isa);
  auto& buffers = execution.workspace->buffers();
  auto& views = buffers.views;
  views.assign(1, view_train_bank(bank));
  BankView& view = views.front();
  if (tape != nullptr && tape->keeps_activations()) use_tape(view, bank, *tape);
  const std::int64_t rows = bank.plan->num_rows();
  Arena arena;
  LeftBuffers token_buffers;
  token_buffers.reserve(arena, view.product, 0, n, view.hidden_size);
  if (view.product == ProductKind::kBf16) {
    arena.add(view.hidden16, rows * view.hidden_stride);
  } else {
    arena.add(view.hidden, rows * view.hidden_stride);
  }
  arena.place(buffers.forward);
  const auto& scratch = thread_scratch(buffers, execution.pool->num_threads(), 0);
  convert_rows(kernels, *execution.pool, token_buffers, 0, tokens, view.hidden_size,
               view.hidden_size, n);
  view.tokens = token_buffers.rows(view.token);
  view.hidden_left = hidden_rows(view);
  run_up(kernels, buffers, *execution.pool);
  run_down(kernels, views, output, *execution.pool, scratch);
}

namespace {

/// Gradients of combine weights: what each panel of hidden values adds, and the bias.
void finish_combine_weight(const BackwardView& view, const RoutingPlan& plan, float* grad) {
  const BankView& bank = view.bank;
  for (std::int64_t e = 0; e < plan.num_experts; ++e) {
    const float* bias = bank.parameters.down_bias;
    if (bias != nullptr) bias += e * bank.output_size;
    for (std::int64_t a = bank.offsets[e]; a < bank.offsets[e + 1]; ++a) {
      float sum = 0;
      for (std::int64_t p = 0; p < view.hidden_panels; ++p) {
        sum += view.weight_parts[a * view.hidden_panels + p];
      }
      if (bias != nullptr) {
        const float* dy = view.grad_output_f32 + bank.token[a] * bank.output_size;
        for (std::int64_t o = 0; o < bank.output_size; ++o) sum += dy[o] * bias[o];
      }
      grad[plan.assignment[static_cast<std::size_t>(a)]] = sum;
    }
  }
}

}  // namespace

void expert_ffn_backward(const TrainBank& bank, const float* tokens, const float* grad_output,
                         FfnTape& tape, const FfnGradients& gradients, const Execution& execution) {
  check_train_bank(bank, execution);
  const RoutingPlan& plan = *bank.plan;
  const std::int64_t n = plan.num_tokens;
  const bool gated = is_gated(bank.shape.activation);
  const auto& grad = gradients.parameters;
  const bool wants_weights = grad.up != nullptr;
  MOEKIT_CHECK(
      (grad.down != nullptr) == wants_weights && (grad.gate != nullptr) == (wants_weights && gated),
      "expert kernels: gradients of all matrices are wanted, or of none");
  check_finite(execution, "gradient of token", grad_output, n, bank.shape.output_size);
  if (gradients.combine_weight != nullptr) {
    // Assignments beyond a capacity are in no row.
    std::fill_n(gradients.combine_weight, n * plan.top_k, 0.0F);
  }
  if (execution.isa == Isa::kReference) {
    return reference_backward(bank, tokens, grad_output, gradients);
  }

  const FfnKernels& kernels = ffn_kernels(execution.isa);
  auto& buffers = execution.workspace->buffers();
  ThreadPool& pool = *execution.pool;
  const bool bf16 = bank.compute == ComputeType::kBf16;
  BackwardView view{};
  if (!tape.keeps_activations()) {
    // The forward pass again, as far as the hidden values.
    buffers.views.assign(1, view_train_bank(bank));
    BankView& again = buffers.views.front();
    use_tape(again, bank, buffers.recomputed);
    Arena arena;
    LeftBuffers token_buffers;
    token_buffers.reserve(arena, again.product, 0, n, again.hidden_size);
    arena.place(buffers.forward);
    thread_scratch(buffers, pool.num_threads(), 0);
    convert_rows(kernels, pool, token_buffers, 0, tokens, again.hidden_size, again.hidden_size, n);
    again.tokens = token_buffers.rows(again.token);
    run_up(kernels, buffers, pool);
    view.bank = again;
  } else {
    view.bank = view_train_bank(bank);
    MOEKIT_CHECK(tape.bytes() >= tape_bytes(bank.shape, plan.num_rows()),
                 "expert kernels: the tape is not of a forward pass of this size");
    use_tape(view.bank, bank, tape);
  }
  BankView& b = view.bank;
  const std::int64_t rows = plan.num_rows();
  view.tokens_f32 = tokens;
  view.grad_output_f32 = grad_output;
  view.grad = grad;
  view.grad_tokens = gradients.tokens;
  view.hidden_panels = (b.intermediate_size + kPanelColumns - 1) / kPanelColumns;
  std::int64_t most_rows = 0;
  auto& first_step = buffers.first_step;
  first_step.assign(1, 0);
  for (std::int64_t e = 0; e < plan.num_experts; ++e) {
    const std::int64_t steps = (plan.count(e) + (bf16 ? 1 : 0)) / (bf16 ? 2 : 1);
    first_step.push_back(first_step.back() + steps);
    most_rows = std::max(most_rows, steps);
  }
  view.first_step = first_step.data();

  Arena arena;
  LeftBuffers grad_buffers;
  grad_buffers.reserve(arena, b.product, 0, n, b.output_size);
  if (gated) arena.add(view.grad_gate, rows * b.hidden_stride);
  arena.add(view.grad_up, rows * b.hidden_stride);
  arena.add(view.weighted_hidden, rows * b.hidden_stride);
  if (bf16) {
    if (gated) arena.add(view.grad_gate16, rows * b.hidden_stride);
    arena.add(view.grad_up16, rows * b.hidden_stride);
  }
  arena.add(view.weight_parts, rows * view.hidden_panels);
  if (wants_weights) {
    const std::int64_t hidden_words = first_step.back() * round_up(b.intermediate_size, kTileRows);
    if (gated) arena.add(view.left_gate, 4 * hidden_words);
    arena.add(view.left_up, 4 * hidden_words);
    arena.add(view.left_down, 4 * first_step.back() * round_up(b.output_size, kTileRows));
  }
  arena.place(buffers.backward);
  const auto& scratch = thread_scratch(buffers, pool.num_threads(), most_rows);
  convert_rows(kernels, pool, grad_buffers, 0, grad_output, b.output_size, b.output_size, n);
  view.grad_output = grad_buffers.rows(b.token);

  const auto for_experts = [&](std::int64_t each, const auto& run) {
    pool.run(b.num_active * each, [&](std::int64_t piece, int thread) {
      run(std::int64_t{b.active[piece / each]}, piece % each,
          scratch[static_cast<std::size_t>(thread)]);
    });
  };
  for_experts(view.hidden_panels, [&](std::int64_t expert, std::int64_t panel, const auto& own) {
    kernels.grad_hidden(view, expert, panel, own);
  });
  if (gradients.combine_weight != nullptr) {
    finish_combine_weight(view, plan, gradients.combine_weight);
  }
  if (wants_weights) {
    for_experts(3, [&](std::int64_t expert, std::int64_t which, const auto&) {
      if (which > 0 || gated) kernels.pack_left(view, expert, which);
    });
    const std::int64_t up_panels = (b.hidden_size + kPanelColumns - 1) / kPanelColumns;
    const std::int64_t down_panels = view.hidden_panels;
    for_experts(up_panels + down_panels,
                [&](std::int64_t expert, std::int64_t panel, const auto& own) {
                  const bool down = panel >= up_panels;
                  kernels.grad_weights(view, expert, down, down ? panel - up_panels : panel, own);
                });
  }
  if (gradients.tokens != nullptr) {
    const std::int64_t d = b.hidden_size;
    pool.run((d + kPanelColumns - 1) / kPanelColumns, [&](std::int64_t panel, int thread) {
      const std::int64_t begin = panel * kPanelColumns;
      const auto bytes =
          static_cast<std::size_t>(std::min(kPanelColumns, d - begin)) * sizeof(float);
      for (std::int64_t i = 0; i < n; ++i) std::memset(gradients.tokens + i * d + begin, 0, bytes);
      kernels.grad_tokens(view, panel, scratch[static_cast<std::size_t>(thread)]);
    });
  }
}

}  // namespace moekit::kernels
