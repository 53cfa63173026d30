#include <algorithm>

#include "moekit/kernels/ffn/driver.h"
#include "moekit/kernels/ffn/expert_ffn_ref.h"

namespace moekit::kernels {
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
               enum_name(bank.shape.activation), ", bias = ", bank.shape.bias);
  check_plan(*bank.plan, bank.shape.num_experts, bank.plan->num_tokens);
}

/// The instruction set of both passes. Measured on Zen 5, OLMoE's layer: with 4 and 8 rows an
/// expert rounded floats take 0.6 of the time of bfloat16's own product, with 16 as much.
Isa train_path(const TrainBank& bank, const FormatPaths& paths) {
  constexpr std::int64_t kFewRows = 16;
  if (bank.compute == ComputeType::kF32) return paths.f32;
  const auto experts = static_cast<std::int64_t>(bank.plan->active.size());
  return bank.plan->num_rows() < kFewRows * experts ? paths.few_bf16 : paths.bf16;
}

/// The view of a bank on unpacked parameters; operands are still missing.
BankView view_train_bank(const TrainBank& bank, const FormatPaths& paths) {
  BankView view{};
  view_shape(view, bank.shape);
  view_plan(view, *bank.plan);
  view.parameters = bank.parameters;
  const bool bf16 = bank.compute == ComputeType::kBf16;
  view.product = bf16 ? ProductKind::kBf16 : ProductKind::kF32;
  view.kernels = &ffn_kernels(train_path(bank, paths));
  // Steps of pairs, or of floats.
  const FormatInfo& info =
      format_info(bf16 && !view.kernels->bf16_as_floats ? WeightFormat::kBf16 : WeightFormat::kF32);
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
  if (execution.paths.f32 == Isa::kReference) return reference_train_forward(bank, tokens, output);

  auto& buffers = execution.workspace->buffers();
  auto& views = buffers.views;
  views.assign(1, view_train_bank(bank, execution.paths));
  BankView& view = views.front();
  if (tape != nullptr && tape->keeps_activations()) use_tape(view, bank, *tape);
  const std::int64_t rows = bank.plan->num_rows();
  Arena arena;
  LeftBuffers token_buffers;
  token_buffers.reserve(arena, view.product, view.kernels->bf16_as_floats, 0, n, view.hidden_size);
  if (view.product == ProductKind::kBf16 && !view.kernels->bf16_as_floats) {
    arena.add(view.hidden16, rows * view.hidden_stride);
  } else {
    arena.add(view.hidden, rows * view.hidden_stride);
  }
  arena.place(buffers.forward);
  const auto& scratch = thread_scratch(buffers, execution.pool->num_threads(), 0);
  convert_rows(*view.kernels, *execution.pool, token_buffers, 0, tokens, view.hidden_size,
               view.hidden_size, n);
  view.tokens = token_buffers.rows(view.token);
  view.hidden_left = hidden_rows(view);
  run_up(buffers, *execution.pool);
  run_down(views, output, *execution.pool, scratch);
}

namespace {

/// The bank with gate and up values as the tape keeps them, or else computed again.
BankView bank_with_activations(const TrainBank& bank, const float* tokens, FfnTape& tape,
                               const Execution& execution) {
  auto& buffers = execution.workspace->buffers();
  if (tape.keeps_activations()) {
    MOEKIT_CHECK(tape.bytes() >= tape_bytes(bank.shape, bank.plan->num_rows()),
                 "expert kernels: the tape is not of a forward pass of this size");
    BankView view = view_train_bank(bank, execution.paths);
    use_tape(view, bank, tape);
    return view;
  }
  buffers.views.assign(1, view_train_bank(bank, execution.paths));
  BankView& view = buffers.views.front();
  use_tape(view, bank, buffers.recomputed);
  const std::int64_t n = bank.plan->num_tokens;
  Arena arena;
  LeftBuffers token_buffers;
  token_buffers.reserve(arena, view.product, view.kernels->bf16_as_floats, 0, n, view.hidden_size);
  arena.place(buffers.forward);
  thread_scratch(buffers, execution.pool->num_threads(), 0);
  convert_rows(*view.kernels, *execution.pool, token_buffers, 0, tokens, view.hidden_size,
               view.hidden_size, n);
  view.tokens = token_buffers.rows(view.token);
  run_up(buffers, *execution.pool);
  return view;
}

/// Where each expert's rows begin in steps (of a row, or a pair); returns the most of one expert.
std::int64_t sum_steps(const RoutingPlan& plan, bool pairs, std::vector<std::int64_t>& first_step) {
  std::int64_t most = 0;
  first_step.assign(1, 0);
  for (std::int64_t e = 0; e < plan.num_experts; ++e) {
    const std::int64_t steps = (plan.count(e) + (pairs ? 1 : 0)) / (pairs ? 2 : 1);
    first_step.push_back(first_step.back() + steps);
    most = std::max(most, steps);
  }
  return most;
}

/// Takes memory for what comes between the rounds.
/// @param bf16_as_floats  of the backward kernels
void reserve_between(Arena& arena, BackwardView& view, bool bf16_as_floats, std::int64_t rows,
                     std::int64_t all_steps) {
  const BankView& b = view.bank;
  const bool bf16 = b.product == ProductKind::kBf16;
  const std::int64_t values = rows * b.hidden_stride;
  if (b.gated) arena.add(view.grad_gate, values);
  arena.add(view.grad_up, values);
  arena.add(view.weighted_hidden, values);
  if (bf16 && bf16_as_floats) {
    if (b.gated) arena.add(view.grad_gate_rounded, values);
    arena.add(view.grad_up_rounded, values);
  } else if (bf16) {
    if (b.gated) arena.add(view.grad_gate16, values);
    arena.add(view.grad_up16, values);
  }
  arena.add(view.weight_parts, rows * view.hidden_panels);
  if (view.grad.up == nullptr) return;
  const std::int64_t hidden_words = all_steps * round_up(b.intermediate_size, kTileRows);
  if (b.gated) arena.add(view.left_gate, 4 * hidden_words);
  arena.add(view.left_up, 4 * hidden_words);
  arena.add(view.left_down, 4 * all_steps * round_up(b.output_size, kTileRows));
}

/// run(expert, part, scratch) for parts 0 .. each-1 of all experts with tokens.
template <typename Run>
void for_experts(ThreadPool& pool, const BankView& bank, const std::vector<ThreadScratch>& scratch,
                 std::int64_t each, const Run& run) {
  pool.run(bank.num_active * each, [&](std::int64_t piece, int thread) {
    run(std::int64_t{bank.active[piece / each]}, piece % each,
        scratch[static_cast<std::size_t>(thread)]);
  });
}

void run_grad_weights(const FfnBackwardKernels& kernels, const BackwardView& view, ThreadPool& pool,
                      const std::vector<ThreadScratch>& scratch) {
  const BankView& b = view.bank;
  for_experts(pool, b, scratch, 3, [&](std::int64_t expert, std::int64_t which, const auto&) {
    if (which > 0 || b.gated) kernels.pack_left(view, expert, which);
  });
  const std::int64_t up_panels = count_panels(b.hidden_size);
  for_experts(pool, b, scratch, up_panels + view.hidden_panels,
              [&](std::int64_t expert, std::int64_t panel, const auto& own) {
                const bool down = panel >= up_panels;
                kernels.grad_weights(view, expert, down, down ? panel - up_panels : panel, own);
              });
}

void run_grad_tokens(const FfnBackwardKernels& kernels, const BackwardView& view, ThreadPool& pool,
                     const std::vector<ThreadScratch>& scratch) {
  const BankView& b = view.bank;
  pool.run(count_panels(b.hidden_size), [&](std::int64_t panel, int thread) {
    clear_panel(view.grad_tokens, b.num_tokens, b.hidden_size, panel);
    kernels.grad_tokens(view, panel, scratch[static_cast<std::size_t>(thread)]);
  });
}

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
    std::fill_n(gradients.combine_weight, plan.num_assignments, 0.0F);
  }
  if (execution.paths.f32 == Isa::kReference) {
    return reference_backward(bank, tokens, grad_output, gradients);
  }

  auto& buffers = execution.workspace->buffers();
  ThreadPool& pool = *execution.pool;
  BackwardView view{};
  view.bank = bank_with_activations(bank, tokens, tape, execution);
  const BankView& b = view.bank;
  const FfnBackwardKernels& backward = ffn_backward_kernels(train_path(bank, execution.paths));
  view.tokens_f32 = tokens;
  view.grad_output_f32 = grad_output;
  view.grad = grad;
  view.grad_tokens = gradients.tokens;
  view.hidden_panels = count_panels(b.intermediate_size);
  const std::int64_t most_steps = sum_steps(
      plan, bank.compute == ComputeType::kBf16 && !backward.bf16_as_floats, buffers.first_step);
  view.first_step = buffers.first_step.data();
  Arena arena;
  LeftBuffers grad_buffers;
  grad_buffers.reserve(arena, b.product, backward.bf16_as_floats, 0, n, b.output_size);
  reserve_between(arena, view, backward.bf16_as_floats, plan.num_rows(), buffers.first_step.back());
  arena.place(buffers.backward);
  const auto& scratch = thread_scratch(buffers, pool.num_threads(), most_steps);
  convert_rows(*b.kernels, pool, grad_buffers, 0, grad_output, b.output_size, b.output_size, n);
  view.grad_output = grad_buffers.rows(b.token);

  for_experts(pool, b, scratch, view.hidden_panels,
              [&](std::int64_t expert, std::int64_t panel, const auto& own) {
                backward.grad_hidden(view, expert, panel, own);
              });
  if (gradients.combine_weight != nullptr) {
    finish_combine_weight(view, plan, gradients.combine_weight);
  }
  if (wants_weights) run_grad_weights(backward, view, pool, scratch);
  if (gradients.tokens != nullptr) run_grad_tokens(backward, view, pool, scratch);
}

}  // namespace moekit::kernels
