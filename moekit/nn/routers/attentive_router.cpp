#include "moekit/nn/routers/attentive_router.h"

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/routers/trunk.h"

namespace moekit::nn {

AttentiveRouterImpl::AttentiveRouterImpl(AttentiveRouterOptions options_,
                                         torch::nn::AnyModule trunk_)
    : options(std::move(options_)), trunk(std::move(trunk_)) {
  MOEKIT_CHECK(options.hidden_size() >= 1, "AttentiveRouter: hidden_size must be positive; got ",
               options.hidden_size());
  check_top_k(options.top_k(), options.num_experts(), "AttentiveRouter: ");
  reset();
}

void AttentiveRouterImpl::reset() {
  trunk = register_trunk(*this, trunk);
  const auto size = {options.hidden_size(), options.hidden_size()};
  query_weight = register_parameter("query_weight", torch::empty(size));
  key_weight = register_parameter("key_weight", torch::empty(size));
  reset_parameters({});
}

void AttentiveRouterImpl::reset_parameters(const at::Generator& generator) {
  reset_trunk(trunk, generator);
  init_uniform_fan_in(query_weight, options.hidden_size(), generator);
  init_uniform_fan_in(key_weight, options.hidden_size(), generator);
}

Routing AttentiveRouterImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  const auto& keys = context.expert_features;
  MOEKIT_CHECK(keys.defined(), "AttentiveRouter: needs the experts' features and got none");
  const auto hidden = run_trunk(trunk, tokens);
  MOEKIT_CHECK(hidden.dim() == 2 && hidden.size(1) == options.hidden_size(),
               "AttentiveRouter: the trunk must give [N, ", options.hidden_size(), "]; got ",
               hidden.sizes());
  MOEKIT_CHECK(keys.dim() == 3 && keys.size(0) == options.num_experts() &&
                   keys.size(1) == hidden.size(0) && keys.size(2) == options.hidden_size(),
               "AttentiveRouter: expert features must be [", options.num_experts(), ", ",
               hidden.size(0), ", ", options.hidden_size(), "]; got ", keys.sizes());
  // <u W_q, v W_k> = <u W_q W_k', v>: one product of size h x h in place of E.
  const auto type = c10::promoteTypes(compute_type(hidden, query_weight), keys.scalar_type());
  const auto query = hidden.to(type).matmul(query_weight.to(type)).matmul(key_weight.to(type).t());
  const double scale = 1.0 / std::sqrt(static_cast<double>(options.hidden_size()));
  const auto logits = (keys.to(type) * query.unsqueeze(0)).sum(2).t() * scale;
  return route(logits, options.top_k(), options.combine_weights());
}

void AttentiveRouterImpl::pretty_print(std::ostream& stream) const {
  stream << "moekit::nn::AttentiveRouter(hidden_size=" << options.hidden_size()
         << ", num_experts=" << options.num_experts() << ")";
}

void AttentiveRouterImpl::take_experts(ExpertEdit& edit) {
  edit.then([this, experts = edit.index.numel()] {
    options.num_experts(experts).top_k(std::min(options.top_k(), experts));
  });
}

RouterTraits AttentiveRouterImpl::traits() const {
  RouterTraits traits;
  traits.top_k = options.top_k();
  traits.no_weight_gradient =
      why_no_gradient(options.top_k(), options.num_experts(), options.combine_weights());
  traits.combine_weights = options.combine_weights();
  traits.aux_only = options.aux_only();
  return traits;
}

void check_attentive_router(const AttentiveRouterConfig& config, const LayerSite& site,
                            const std::string& where) {
  check_trunk(config.front, site, where);
  check_top_k(config.router.top_k(), site.num_experts, where + ".");
  MOEKIT_CHECK(site.feature_size > 0, where,
               ".kind = \"attentive\": these experts have no hidden vector to attend to");
  const int64_t own = make_trunk(config.front, site).size;
  MOEKIT_CHECK(site.feature_size == own, where,
               ".kind = \"attentive\" wants equal h: the experts' hidden vectors have ",
               site.feature_size, ", the router's ", own);
}

std::shared_ptr<RouterImpl> make_attentive_router(const AttentiveRouterConfig& config,
                                                  const LayerSite& site) {
  auto trunk = make_trunk(config.front, site);
  auto options = config.router;
  options.hidden_size(trunk.size).num_experts(site.num_experts);
  return std::make_shared<AttentiveRouterImpl>(std::move(options), std::move(trunk.module));
}

}  // namespace moekit::nn
