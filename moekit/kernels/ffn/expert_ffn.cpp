#include "moekit/kernels/ffn/expert_ffn.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "moekit/kernels/ffn/driver.h"
#include "moekit/kernels/ffn/expert_ffn_ref.h"

namespace moekit::kernels {
namespace {

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

std::int64_t offset_from(const char* base, const float* pointer) {
  return pointer == nullptr ? -1 : reinterpret_cast<const char*>(pointer) - base;
}

BankView view_bank(const FfnBank& bank, const KernelsOf& kernels) {
  const PackedExperts& experts = *bank.experts;
  BankView view{};
  view_shape(view, experts.shape());
  view_plan(view, *bank.plan);
  view.product = product_of(experts.info());
  view.kernels = &kernels(view.product);
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

void check_banks(const std::vector<FfnBank>& banks) {
  MOEKIT_CHECK(!banks.empty(), "expert kernels: no bank given");
  const FfnShape& first = banks.front().experts->shape();
  for (const auto& bank : banks) {
    const FfnShape& s = bank.experts->shape();
    MOEKIT_CHECK(s.hidden_size == first.hidden_size && s.output_size == first.output_size,
                 "expert kernels: banks of ", first.hidden_size, " to ", first.output_size, " and ",
                 s.hidden_size, " to ", s.output_size, " values in one call");
    check_plan(*bank.plan, s.num_experts, banks.front().plan->num_tokens);
  }
}

/// Takes memory for each bank's hidden values and for what its two products take on the left.
void reserve_operands(Arena& arena, const std::vector<FfnBank>& banks, std::vector<BankView>& views,
                      std::vector<Operands>& operands) {
  operands.assign(banks.size(), {});
  for (std::size_t b = 0; b < banks.size(); ++b) {
    const PackedExperts& experts = *banks[b].experts;
    auto& view = views[b];
    auto& operand = operands[b];
    const std::int64_t rows = banks[b].plan->num_rows();
    // Shared experts most often have the routed ones' format: their tokens are rounded once.
    const auto same = std::find_if(banks.begin(), banks.end(), [&](const FfnBank& other) {
      return other.experts->format() == experts.format();
    });
    operand.tokens_of = static_cast<std::size_t>(same - banks.begin());
    if (operand.tokens_of == b) {
      operand.tokens.reserve(arena, view.product, view.kernels->bf16_as_floats, view.group,
                             view.num_tokens, experts.up_layout().padded_inputs);
    }
    if (view.product == ProductKind::kBf16 && !view.kernels->bf16_as_floats) {
      arena.add(view.hidden16, rows * view.hidden_stride);
      continue;
    }
    arena.add(view.hidden, rows * view.hidden_stride);
    if (view.product != ProductKind::kF32 && view.product != ProductKind::kBf16) {
      operand.hidden.reserve(arena, view.product, false, view.group, rows,
                             experts.down_layout().padded_inputs);
    }
  }
}

/// Brings tokens into the form that each bank takes, and points the views at them.
void convert_tokens(ThreadPool& pool, const float* tokens, std::vector<BankView>& views,
                    const std::vector<Operands>& operands) {
  for (std::size_t b = 0; b < views.size(); ++b) {
    auto& view = views[b];
    const auto& operand = operands[b];
    const auto& token_buffers = operands[operand.tokens_of].tokens;
    if (operand.tokens_of == b) {
      convert_rows(*view.kernels, pool, token_buffers, view.group, tokens, view.hidden_size,
                   view.hidden_size, view.num_tokens);
    }
    view.tokens = token_buffers.rows(view.token);
    view.hidden_left =
        operand.hidden.codes != nullptr ? operand.hidden.rows(nullptr) : hidden_rows(view);
  }
}

/// Divides the scales of quantized rows by the rows' root mean squares: their codes stay as they
/// are, for they do not depend on a row's size.
void normalize_scales(ThreadPool& pool, const BankView& view, std::int64_t rows, float eps,
                      float* scale) {
  run_rows(pool, rows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* row = view.hidden + r * view.hidden_stride;
      constexpr std::int64_t kSums = 16;  // side by side: the compiler makes vectors of them
      float sums[kSums] = {};
      std::int64_t start = 0;
      for (; start + kSums <= view.intermediate_size; start += kSums) {
        for (std::int64_t i = 0; i < kSums; ++i) sums[i] += row[start + i] * row[start + i];
      }
      for (std::int64_t i = start; i < view.intermediate_size; ++i) sums[0] += row[i] * row[i];
      float sum = 0;
      for (const float s : sums) sum += s;
      scale[r] /= std::sqrt(sum / static_cast<float>(view.intermediate_size) + eps);
    }
  });
}

/// Hidden values of integer formats, as the second product takes them.
void convert_hidden(ThreadPool& pool, const std::vector<FfnBank>& banks,
                    const std::vector<BankView>& views, const std::vector<Operands>& operands) {
  for (std::size_t b = 0; b < views.size(); ++b) {
    const auto& hidden = operands[b].hidden;
    if (hidden.codes == nullptr) continue;
    const std::int64_t rows = banks[b].plan->num_rows();
    convert_rows(*views[b].kernels, pool, hidden, views[b].group, views[b].hidden,
                 views[b].hidden_stride, views[b].intermediate_size, rows);
    const float eps = banks[b].experts->shape().hidden_norm_eps;
    if (eps > 0) normalize_scales(pool, views[b], rows, eps, hidden.scale);
  }
}

}  // namespace

void expert_ffn_forward(const std::vector<FfnBank>& banks, const float* tokens, float* output,
                        const Execution& execution) {
  check_execution(execution);
  check_banks(banks);
  check_finite(execution, "token", tokens, banks.front().plan->num_tokens,
               banks.front().experts->shape().hidden_size);
  if (execution.paths.f32 == Isa::kReference) return reference_forward(banks, tokens, output);

  forward_with(banks, tokens, output, *execution.pool, *execution.workspace,
               [&](ProductKind product) -> const FfnKernels& {
                 return ffn_kernels(path_of(execution.paths, product));
               });
}

void forward_with(const std::vector<FfnBank>& banks, const float* tokens, float* output,
                  ThreadPool& pool, Workspace& workspace, const KernelsOf& kernels) {
  auto& buffers = workspace.buffers();
  auto& views = buffers.views;
  views.clear();
  for (const auto& bank : banks) views.push_back(view_bank(bank, kernels));
  Arena arena;
  reserve_operands(arena, banks, views, buffers.operands);
  arena.place(buffers.forward);
  const auto& scratch = thread_scratch(buffers, pool.num_threads(), 0);
  convert_tokens(pool, tokens, views, buffers.operands);
  run_up(buffers, pool);
  convert_hidden(pool, banks, views, buffers.operands);
  run_down(views, output, pool, scratch);
}

}  // namespace moekit::kernels
