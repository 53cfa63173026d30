#include "moekit/nn/routers/sparsemixer_router.h"

#include <torch/torch.h>

#include <limits>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

/// The expert of the largest logit left, [N, 1], and its weight.
struct Choice {
  torch::Tensor expert;
  torch::Tensor weight;
};

Choice choose(const torch::Tensor& left, const torch::Tensor& logits, double jitter) {
  const auto [most, expert] = left.max(1, true);
  const auto size = torch::maximum(logits.abs(), most);
  const auto far = (most - logits) / size > 2 * jitter;
  const auto near = left.masked_fill(far, -std::numeric_limits<double>::infinity());
  return {expert, torch::softmax(near, 1).gather(1, expert)};
}

}  // namespace

SparsemixerRouterImpl::SparsemixerRouterImpl(SparsemixerRouterOptions options_)
    : options(std::move(options_)) {
  MOEKIT_CHECK(options.num_experts() >= 2,
               "SparsemixerRouter: num_experts must be at least 2; got ", options.num_experts());
  MOEKIT_CHECK(options.jitter() >= 0, "SparsemixerRouter: jitter must be at least 0; got ",
               options.jitter());
  reset();
}

void SparsemixerRouterImpl::reset() {
  register_weight(options.num_experts(), options.hidden_size());
  reset_parameters({});
}

Routing SparsemixerRouterImpl::forward(const torch::Tensor& tokens, const RouterContext&) {
  Routing routing;
  routing.logits = logits_of("SparsemixerRouter", tokens);
  routing.probs = torch::softmax(routing.logits, 1);
  const auto first = choose(routing.logits, routing.logits, options.jitter());
  const auto left =
      routing.logits.scatter(1, first.expert, -std::numeric_limits<double>::infinity());
  const auto second = choose(left, routing.logits, options.jitter());
  routing.expert_index = torch::cat({first.expert, second.expert}, 1);
  routing.weight = torch::cat({first.weight, second.weight}, 1).reshape({-1});
  routing.expert = routing.expert_index.reshape({-1});
  routing.token = torch::arange(tokens.size(0), torch::kLong).repeat_interleave(2);
  return routing;
}

void SparsemixerRouterImpl::take_experts(ExpertEdit& edit) {
  MOEKIT_CHECK(edit.index.numel() >= 2, "SparsemixerRouter: two experts must be left");
  edit.take_rows(weight);
  edit.then([this, experts = edit.index.numel()] { options.num_experts(experts); });
}

RouterTraits SparsemixerRouterImpl::traits() const {
  RouterTraits traits;
  traits.top_k = 2;
  traits.combine_weights = CombineWeights::kProbs;
  return traits;
}

}  // namespace moekit::nn
