#include "moekit/nn/capacity.h"

#include <algorithm>
#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/top_k.h"

namespace moekit::nn {
namespace {

/// Which choice of its token each assignment is, from 0. [A] int64
torch::Tensor choice_rank(const Routing& routing) {
  if (routing.takes_all) {  // the list has experts in order, whatever a token thinks of them
    const auto by_rank = top_k_index(routing.logits, routing.num_experts());
    const auto ranks = torch::arange(routing.num_experts(), torch::kLong).expand_as(by_rank);
    return torch::zeros_like(by_rank).scatter(1, by_rank, ranks).flatten();
  }
  const auto token = routing.token.contiguous();
  auto rank = torch::empty_like(token);
  std::vector<int64_t> seen(static_cast<size_t>(routing.num_tokens()), 0);
  const auto* of = token.data_ptr<int64_t>();
  auto* out = rank.data_ptr<int64_t>();
  for (int64_t a = 0; a < token.numel(); ++a) {
    MOEKIT_CHECK(of[a] >= 0 && of[a] < routing.num_tokens(), "capacity: assignment ", a,
                 " is of token ", of[a], "; there are ", routing.num_tokens());
    out[a] = seen[static_cast<size_t>(of[a])]++;
  }
  return rank;
}

}  // namespace

void check_capacity(const CapacityOptions& options, int64_t top_k, int64_t num_free,
                    const std::string& where) {
  MOEKIT_CHECK(std::isfinite(options.factor) && options.factor >= 0, where,
               "capacity_factor must be finite and at least 0; got ", options.factor);
  MOEKIT_CHECK(
      std::isfinite(options.eval_factor) && (options.eval_factor >= 0 || options.eval_factor == -1),
      where, "eval_capacity_factor must be finite and at least 0, or -1; got ",
      options.eval_factor);
  MOEKIT_CHECK(options.least >= 1, where, "min_capacity must be at least 1; got ", options.least);
  MOEKIT_CHECK(std::isfinite(options.tau) && options.tau > 0, where,
               "capacity_tau must be finite and above 0; got ", options.tau);
  MOEKIT_CHECK(options.tau == 1 || num_free > 0, where,
               "capacity_tau: all experts of this layer compute; wanted 1, or expert.kind = "
               "\"zero_computation\"");
  MOEKIT_CHECK(
      !options.renormalize || top_k != 1, where,
      "renormalize_dropped wants a top_k above 1: a token with one choice keeps it or none");
  if (options.factor > 0 || options.eval_factor > 0) return;
  CapacityOptions others = options;
  others.factor = 0;
  others.eval_factor = -1;
  MOEKIT_CHECK(others == CapacityOptions{}, where,
               "min_capacity, capacity_tau, capacity_priority and renormalize_dropped want a ",
               "capacity_factor or eval_capacity_factor above 0: this layer never drops");
}

std::vector<int64_t> capacity_of(const CapacityOptions& options, bool training,
                                 const Routing& routing, int64_t num_computing) {
  const double factor = options.factor_in(training);
  if (factor == 0) return {};
  const int64_t assignments = routing.num_assignments();
  // No expert takes a token twice.
  const auto within = [&](int64_t capacity) {
    return std::max<int64_t>(1, std::min(std::max(capacity, options.least), routing.num_tokens()));
  };
  const int64_t all = routing.num_experts();
  if (options.tau == 1) return {within(expert_capacity(factor, assignments, all))};
  const double parts =
      options.tau * static_cast<double>(num_computing) + static_cast<double>(all - num_computing);
  std::vector<int64_t> out(static_cast<size_t>(all),
                           within(expert_capacity(factor / parts, assignments, 1)));
  std::fill_n(out.begin(), num_computing,
              within(expert_capacity(factor * options.tau / parts, assignments, 1)));
  return out;
}

torch::Tensor capacity_order(CapacityPriority priority, const Routing& routing) {
  switch (priority) {
    case CapacityPriority::kRank:
      return std::get<1>(torch::sort(choice_rank(routing), /*stable=*/true, 0,
                                     /*descending=*/false));
    case CapacityPriority::kWeight:
      return std::get<1>(torch::sort(routing.weight.detach().to(torch::kFloat64), /*stable=*/true,
                                     0, /*descending=*/true));
    case CapacityPriority::kOrder:
      break;
  }
  return {};
}

torch::Tensor renormalize_kept(const torch::Tensor& weight, const Routing& routing,
                               const RoutingPlan& plan) {
  const auto negative = weight.detach().lt(0).nonzero().flatten();
  MOEKIT_CHECK(negative.numel() == 0, "renormalize_dropped: weights must be at least 0; token ",
               routing.token[negative[0].item<int64_t>()].item<int64_t>(), " has ",
               weight[negative[0].item<int64_t>()].item<double>());
  const auto sums = torch::zeros({plan.num_tokens}, weight.options().requires_grad(false));
  const auto all = sums.index_add(0, routing.token, weight);
  const auto kept =
      sums.index_add(0, plan_tokens(plan), weight.index_select(0, plan_assignments(plan)));
  const auto any = kept > 0;
  const auto scale = torch::where(any, all / torch::where(any, kept, torch::ones_like(kept)),
                                  torch::ones_like(kept));
  return weight * scale.index_select(0, routing.token);
}

}  // namespace moekit::nn
