#include "moekit/nn/routers/round_robin_router.h"

#include "moekit/core/error.h"

namespace moekit::nn {

RoundRobinRouterImpl::RoundRobinRouterImpl(RoundRobinRouterOptions options_)
    : options(std::move(options_)) {}

Routing RoundRobinRouterImpl::forward(const torch::Tensor& tokens, const RouterContext&) {
  const int64_t count = tokens.size(0);
  const auto token = torch::arange(count, torch::kLong);
  const auto expert = (token * options.stride()).remainder(num_experts());
  const auto logits =
      torch::full({count, num_experts()}, -10.0).scatter(1, expert.unsqueeze(1), 10.0);
  return route(logits, 1);
}

RouterTraits RoundRobinRouterImpl::traits() const {
  RouterTraits traits;
  traits.top_k = 1;
  traits.learns = false;
  return traits;
}

void RoundRobinRouterImpl::take_experts(ExpertEdit& edit) {
  edit.then([this, experts = edit.index.numel()] { options.num_experts(experts); });
}

void check_round_robin_router(const RoundRobinRouterOptions& options, const LayerSite& site,
                              const std::string& where) {
  MOEKIT_CHECK(options.stride() >= 1 && options.stride() < site.num_experts, where,
               ".stride must be 1..", site.num_experts - 1, "; got ", options.stride());
}

std::shared_ptr<RouterImpl> make_round_robin_router(const RoundRobinRouterOptions& options,
                                                    const LayerSite& site) {
  return std::make_shared<RoundRobinRouterImpl>(
      RoundRobinRouterOptions(options).num_experts(site.num_experts));
}

}  // namespace moekit::nn
