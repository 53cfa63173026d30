#include "moekit/nn/routing.h"

#include <algorithm>
#include <cmath>

#include "moekit/core/error.h"
#include "moekit/core/numbers.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/top_k.h"

namespace moekit::nn {
namespace {

Routing softmax_of(const char* who, const torch::Tensor& logits) {
  MOEKIT_CHECK(logits.dim() == 2, who, ": logits must be [N, E]; got ", logits.sizes());
  Routing routing;
  routing.logits = at_least_float(logits);
  routing.probs = torch::softmax(routing.logits, 1);
  return routing;
}

template <typename Capacity>
RoutingPlan plan_of(const kernels::AssignmentList& list, const Capacity& capacity,
                    const int64_t* order = nullptr) {
  RoutingPlan plan;
  plan.build(list, capacity, order);
  return plan;
}

}  // namespace

Routing route(const torch::Tensor& logits, int64_t top_k, CombineWeights weights,
              const torch::Tensor& clean_logits) {
  Routing routing = softmax_of("route", logits);
  const int64_t num_experts = logits.size(1);
  MOEKIT_CHECK(top_k >= 0 && top_k <= num_experts, "route: top_k must be 0 (all) or 1..",
               num_experts, " (num_experts); got ", top_k);
  if (clean_logits.defined()) routing.clean_logits = at_least_float(clean_logits);
  const bool all = top_k == 0 || top_k == num_experts;
  routing.takes_all = all;
  routing.expert_index =
      all ? torch::arange(num_experts, torch::kLong).expand_as(logits) : top_k_index(logits, top_k);
  const auto chosen = [&](const torch::Tensor& of) {
    return all ? of : of.gather(1, routing.expert_index);
  };
  torch::Tensor weight;
  switch (weights) {
    case CombineWeights::kProbs:
      weight = chosen(routing.probs);
      break;
    case CombineWeights::kRenormalized:
      weight = all ? routing.probs : torch::softmax(chosen(routing.logits), 1);
      break;
    case CombineWeights::kCleanProbs:
      weight =
          chosen(clean_logits.defined() ? torch::softmax(routing.clean_logits, 1) : routing.probs);
      break;
    case CombineWeights::kLogits:
      weight = chosen(routing.logits);
      break;
    case CombineWeights::kStraightThrough: {
      // exp(0) is 1 to the bit, where p / p would divide zeros.
      const auto log_share = chosen(torch::log_softmax(routing.logits, 1));
      weight = (log_share - log_share.detach()).exp();
      break;
    }
  }
  routing.weight = weight.reshape({-1});
  routing.expert = routing.expert_index.reshape({-1});
  routing.token = torch::empty({routing.expert.numel()}, torch::kLong);
  auto* token = routing.token.data_ptr<int64_t>();
  const int64_t chosen_experts = routing.expert_index.size(1);
  for (int64_t t = 0; t < logits.size(0); ++t) {
    token = std::fill_n(token, chosen_experts, t);
  }
  return routing;
}

Routing route_assignments(const torch::Tensor& logits, torch::Tensor token, torch::Tensor expert,
                          torch::Tensor weight) {
  Routing routing = softmax_of("route_assignments", logits);
  const auto is_list = [&](const torch::Tensor& list) {
    return list.dim() == 1 && list.scalar_type() == torch::kLong && list.size(0) == weight.numel();
  };
  MOEKIT_CHECK(weight.dim() == 1 && is_list(token) && is_list(expert),
               "route_assignments: token and expert must be int64 and as long as weight [A]; got ",
               token.sizes(), " ", token.dtype(), ", ", expert.sizes(), " ", expert.dtype(),
               " and ", weight.sizes());
  routing.token = std::move(token);
  routing.expert = std::move(expert);
  routing.weight = std::move(weight);
  return routing;
}

std::string why_no_gradient(int64_t top_k, int64_t num_experts, CombineWeights weights) {
  if (weights == CombineWeights::kLogits) return {};
  if (num_experts == 1) return "there is one expert, whose weight is 1 whatever the router says";
  if (top_k != 1 || weights != CombineWeights::kRenormalized) return {};
  return "top_k = 1 with combine_weights = \"renormalized\" gives the weight 1 whatever the router "
         "says";
}

// By the logits, as the choice itself: their softmax rounds to more ties.
torch::Tensor top1_expert(const Routing& routing) { return top1_index(routing.logits); }

RoutingPlan make_plan(const Routing& routing, std::span<const int64_t> capacity,
                      const torch::Tensor& order) {
  const auto token = routing.token.contiguous();
  const auto expert = routing.expert.contiguous();
  MOEKIT_CHECK(
      !order.defined() || (order.scalar_type() == torch::kLong && order.sizes() == expert.sizes()),
      "make_plan: order must be [", expert.numel(), "] int64");
  const auto taken = order.defined() ? order.contiguous() : order;
  return plan_of({routing.num_tokens(), routing.num_experts(), expert.numel(),
                  token.data_ptr<int64_t>(), expert.data_ptr<int64_t>(), nullptr},
                 capacity, taken.defined() ? taken.data_ptr<int64_t>() : nullptr);
}

RoutingPlan make_plan(const Routing& routing, int64_t capacity, const torch::Tensor& order) {
  return make_plan(routing, std::span(&capacity, capacity == 0 ? 0 : 1), order);
}

RoutingPlan make_plan(const torch::Tensor& expert_index, int64_t num_experts, int64_t capacity) {
  MOEKIT_CHECK(expert_index.dim() == 2 && expert_index.scalar_type() == torch::kLong,
               "make_plan: expert_index must be [N, K] int64; got ", expert_index.sizes(), " ",
               expert_index.dtype());
  const auto expert = expert_index.contiguous();
  return plan_of(
      {expert.size(0), num_experts, expert.numel(), nullptr, expert.data_ptr<int64_t>(), nullptr},
      capacity);
}

RoutingPlan weighted(const RoutingPlan& plan, const torch::Tensor& weight) {
  MOEKIT_CHECK(weight.dim() == 1 && weight.size(0) == plan.num_assignments,
               "weighted: weight must be [", plan.num_assignments, "]; got ", weight.sizes());
  RoutingPlan out = plan;
  const auto weights = weight.detach().to(torch::kFloat32).contiguous();
  const auto* of_assignment = weights.data_ptr<float>();
  for (size_t row = 0; row < plan.assignment.size(); ++row) {
    out.weight[row] = of_assignment[plan.assignment[row]];
  }
  return out;
}

torch::Tensor plan_tokens(const RoutingPlan& plan) {
  auto token = torch::empty({plan.num_rows()}, torch::kLong);
  std::copy(plan.token.begin(), plan.token.end(), token.data_ptr<int64_t>());
  return token;
}

torch::Tensor plan_assignments(const RoutingPlan& plan) {
  auto assignment = torch::empty({plan.num_rows()}, torch::kLong);
  std::copy(plan.assignment.begin(), plan.assignment.end(), assignment.data_ptr<int64_t>());
  return assignment;
}

int64_t expert_capacity(double capacity_factor, int64_t num_assignments, int64_t num_experts) {
  MOEKIT_CHECK(std::isfinite(capacity_factor) && capacity_factor >= 0,
               "capacity_factor must be finite and at least 0; got ", capacity_factor);
  if (capacity_factor == 0) return 0;
  const auto all = static_cast<double>(num_assignments);
  const double wanted = ceil_of_product(capacity_factor * all / static_cast<double>(num_experts));
  return to_integer(std::clamp(wanted, 1.0, std::max(all, 1.0)), "capacity");
}

torch::Tensor dispatch(const torch::Tensor& tokens, const RoutingPlan& plan) {
  return tokens.index_select(0, plan_tokens(plan));
}

torch::Tensor combine(const torch::Tensor& expert_rows, const RoutingPlan& plan,
                      const torch::Tensor& weight) {
  const auto type = compute_type(expert_rows, weight);
  const auto of_row = weight.to(type).index_select(0, plan_assignments(plan));
  const auto out = torch::zeros({plan.num_tokens, expert_rows.size(1)},
                                expert_rows.options().dtype(type).requires_grad(false));
  return out.index_add(0, plan_tokens(plan), expert_rows.to(type) * of_row.unsqueeze(1))
      .to(expert_rows.scalar_type());
}

}  // namespace moekit::nn
