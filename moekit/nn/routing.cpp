#include "moekit/nn/routing.h"

#include <cmath>
#include <numeric>

#include "moekit/core/error.h"

namespace moekit::nn {

Routing route(const torch::Tensor& logits, int64_t top_k, CombineWeights weights,
              const torch::Tensor& clean_logits) {
  MOEKIT_CHECK(logits.dim() == 2, "route: logits must be [N, E]; got ", logits.sizes());
  const int64_t num_experts = logits.size(1);
  MOEKIT_CHECK(top_k >= 0 && top_k <= num_experts, "route: top_k must be 0 (all) or 1..",
               num_experts, " (num_experts); got ", top_k);
  Routing routing;
  routing.logits = logits;
  routing.probs = torch::softmax(logits, 1);
  routing.clean_logits = clean_logits;
  const bool all = top_k == 0 || top_k == num_experts;
  routing.expert_index = all ? torch::arange(num_experts, torch::kLong).expand_as(logits)
                             : std::get<1>(torch::topk(logits.detach(), top_k, 1));
  const auto chosen = [&](const torch::Tensor& of) {
    return all ? of : of.gather(1, routing.expert_index);
  };
  switch (weights) {
    case CombineWeights::kProbs:
      routing.combine_weight = chosen(routing.probs);
      break;
    case CombineWeights::kRenormalized:
      routing.combine_weight = all ? routing.probs : torch::softmax(chosen(logits), 1);
      break;
    case CombineWeights::kCleanProbs:
      routing.combine_weight =
          chosen(clean_logits.defined() ? torch::softmax(clean_logits, 1) : routing.probs);
      break;
    case CombineWeights::kLogits:
      routing.combine_weight = chosen(logits);
      break;
  }
  return routing;
}

torch::Tensor top1_expert(const Routing& routing) { return routing.probs.argmax(1); }

int64_t DispatchPlan::num_dropped() const {
  return std::accumulate(dropped.begin(), dropped.end(), int64_t{0});
}

DispatchPlan make_dispatch_plan(const torch::Tensor& expert_index, int64_t num_experts,
                                int64_t capacity) {
  MOEKIT_CHECK(expert_index.dim() == 2 && expert_index.scalar_type() == torch::kLong,
               "make_dispatch_plan: expert_index must be [N, K] int64; got ", expert_index.sizes(),
               " ", expert_index.dtype());
  MOEKIT_CHECK(capacity >= 0, "make_dispatch_plan: capacity must be at least 0; got ", capacity);
  const auto flat = expert_index.detach().contiguous();
  const int64_t total = flat.numel();
  const auto* expert = flat.data_ptr<int64_t>();
  DispatchPlan plan;
  plan.top_k = expert_index.size(1);
  std::vector<int64_t> counts(static_cast<size_t>(num_experts), 0);
  plan.dropped.assign(static_cast<size_t>(num_experts), 0);
  for (int64_t a = 0; a < total; ++a) {
    MOEKIT_CHECK(expert[a] >= 0 && expert[a] < num_experts, "make_dispatch_plan: token ",
                 a / plan.top_k, " is sent to expert ", expert[a], "; there are ", num_experts);
    auto& count = counts[static_cast<size_t>(expert[a])];
    if (capacity > 0 && count == capacity) {
      ++plan.dropped[static_cast<size_t>(expert[a])];
    } else {
      ++count;
    }
  }
  plan.offsets.assign(static_cast<size_t>(num_experts) + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), plan.offsets.begin() + 1);
  plan.assignment = torch::empty({plan.offsets.back()}, torch::kLong);
  plan.token = torch::empty({plan.offsets.back()}, torch::kLong);
  auto* assignment = plan.assignment.data_ptr<int64_t>();
  auto* token = plan.token.data_ptr<int64_t>();
  std::vector<int64_t> next(plan.offsets.begin(), plan.offsets.end() - 1);
  for (int64_t a = 0; a < total; ++a) {
    const auto e = static_cast<size_t>(expert[a]);
    if (next[e] == plan.offsets[e + 1]) continue;  // beyond the capacity
    assignment[next[e]] = a;
    token[next[e]++] = a / plan.top_k;
  }
  return plan;
}

int64_t expert_capacity(double capacity_factor, int64_t num_tokens, int64_t top_k,
                        int64_t num_experts) {
  MOEKIT_CHECK(capacity_factor >= 0, "capacity_factor must be at least 0; got ", capacity_factor);
  if (capacity_factor == 0) return 0;
  const double fair = static_cast<double>(num_tokens * top_k) / static_cast<double>(num_experts);
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(capacity_factor * fair)));
}

torch::Tensor dispatch(const torch::Tensor& tokens, const DispatchPlan& plan) {
  return tokens.index_select(0, plan.token);
}

torch::Tensor combine(const torch::Tensor& expert_rows, const DispatchPlan& plan,
                      const torch::Tensor& combine_weight) {
  const auto weight = combine_weight.reshape({-1}).index_select(0, plan.assignment);
  const auto out = torch::zeros({combine_weight.size(0), expert_rows.size(1)},
                                expert_rows.options().requires_grad(false));
  return out.index_add(0, plan.token, expert_rows * weight.unsqueeze(1));
}

}  // namespace moekit::nn
