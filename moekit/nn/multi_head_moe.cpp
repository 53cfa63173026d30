#include "moekit/nn/multi_head_moe.h"

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/parts.h"
#include "moekit/nn/precision.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

/// What is said of a token is said of each of its parts. @param of [N] or [B, T]
torch::Tensor of_parts(const torch::Tensor& of, int64_t heads) {
  return of.defined() ? of.repeat_interleave(heads, of.dim() - 1) : of;
}

void init_xavier(const torch::Tensor& weight, double gain, const at::Generator& generator) {
  const auto fans = static_cast<double>(weight.size(0) + weight.size(1));
  const double bound = gain * std::sqrt(6 / fans);
  const torch::NoGradGuard no_grad;
  torch::Tensor(weight).uniform_(-bound, bound, generator);
}

}  // namespace

MultiHeadMoEImpl::MultiHeadMoEImpl(int64_t hidden_size, MultiHeadOptions options_, MoE moe_,
                                   std::shared_ptr<ExpertsImpl> shared_experts_)
    : options(std::move(options_)),
      moe(std::move(moe_)),
      shared_experts(std::move(shared_experts_)),
      hidden_size_(hidden_size) {
  const int64_t heads = options.token_heads();
  MOEKIT_CHECK(heads >= 1 && hidden_size >= 1 && hidden_size % heads == 0,
               "MultiHeadMoE: token_heads must divide hidden_size = ", hidden_size, "; got ",
               heads);
  MOEKIT_CHECK(moe->experts->output_size() == hidden_size / heads,
               "MultiHeadMoE: the mixture gives ", moe->experts->output_size(),
               " values; a part of a token has ", hidden_size / heads);
  MOEKIT_CHECK(!shared_experts || shared_experts->output_size() == hidden_size,
               "MultiHeadMoE: shared experts must give ", hidden_size, " values");
  const torch::nn::LinearOptions square(hidden_size, hidden_size);
  if (options.head_layer()) head = register_module("head", torch::nn::Linear(square));
  if (options.merge_layer()) merge = register_module("merge", torch::nn::Linear(square));
  register_module("moe", moe);
  register_part(*this, "shared_experts", shared_experts);
  reset_parameters({});
}

void MultiHeadMoEImpl::reset() {
  const auto copy = [&](const char* name, auto& holder) {
    using Held = typename std::decay_t<decltype(holder)>::ContainedType;
    if (!holder) return;
    holder = std::decay_t<decltype(holder)>(std::dynamic_pointer_cast<Held>(holder->clone()));
    register_module(name, holder);
  };
  copy("head", head);
  copy("merge", merge);
  copy("moe", moe);
  register_copy(*this, "shared_experts", shared_experts);
}

void MultiHeadMoEImpl::reset_parameters(const at::Generator& generator) {
  // Both of the released code.
  if (head) {
    init_xavier(head->weight, 1 / std::sqrt(2.0), generator);
    init_uniform_fan_in(head->bias, hidden_size_, generator);
  }
  if (merge) {
    init_xavier(merge->weight, 1, generator);
    const torch::NoGradGuard no_grad;
    merge->bias.zero_();
  }
  if (shared_experts) shared_experts->reset_parameters(generator);
}

MoEOutput MultiHeadMoEImpl::forward_with_routing(const torch::Tensor& tokens,
                                                 const RouterContext& context) {
  MOEKIT_CHECK((tokens.dim() == 2 || tokens.dim() == 3) && tokens.size(-1) == hidden_size_,
               "MultiHeadMoE: tokens must be [N, ", hidden_size_, "] or [B, T, ", hidden_size_,
               "]; got ", tokens.sizes());
  const int64_t heads = options.token_heads();
  auto sizes = tokens.sizes().vec();
  sizes[sizes.size() - 2] *= heads;
  sizes.back() /= heads;
  auto of = context;
  for (auto* field : {&of.mask, &of.task_id, &of.token_id}) *field = of_parts(*field, heads);
  const auto mixed =
      head ? tensor::counted("head", [&] { return head(as_parameters(tokens, *head)); }) : tokens;
  auto output = moe->forward_with_routing(mixed.contiguous().view(sizes), of);
  output.values = output.values.contiguous().view(tokens.sizes());
  if (merge) {
    output.values =
        tensor::counted("merge", [&] { return merge(as_parameters(output.values, *merge)); });
  }
  if (shared_experts) {
    const auto rows = as_parameters(tokens, *shared_experts).reshape({-1, hidden_size_});
    const auto shared =
        tensor::counted("shared", [&] { return shared_experts->forward_all(rows).values.sum(0); });
    output.values = output.values + shared.view(tokens.sizes()).to(output.values.scalar_type());
  }
  return output;
}

MultiHeadSizes equal_cost(const ReferenceMixture& of, int64_t token_heads, int64_t top_k) {
  MOEKIT_CHECK(of.hidden_size >= 1 && of.intermediate_size >= 1 && of.num_experts >= 1 &&
                   of.top_k >= 1 && of.matrices >= 1 && token_heads >= 1 && top_k >= 1,
               "equal_cost: all sizes must be at least 1");
  const auto d = static_cast<double>(of.hidden_size);
  const auto m = static_cast<double>(of.matrices);
  const auto units = static_cast<double>(of.intermediate_size);
  const double width =
      (static_cast<double>(of.top_k) * units - 2 * d / m) / static_cast<double>(top_k);
  MOEKIT_CHECK(width > 0, "equal_cost: d_mh = (k_0 d_moe - 2 d / m) / k = (", of.top_k, " * ",
               of.intermediate_size, " - 2 * ", of.hidden_size, " / ", of.matrices, ") / ", top_k,
               " = ", width, ": the two maps alone cost more than the reference's experts");
  const double experts = static_cast<double>(token_heads) *
                         (m * d * units * static_cast<double>(of.num_experts) - 2 * d * d) /
                         (m * d * width);
  return {width, experts};
}

}  // namespace moekit::nn
