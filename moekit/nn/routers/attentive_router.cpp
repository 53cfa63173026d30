#include "moekit/nn/routers/attentive_router.h"

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/routers/trunk.h"

namespace moekit::nn {

AttentiveRouterImpl::AttentiveRouterImpl(AttentiveRouterOptions options_,
                                         torch::nn::AnyModule trunk_)
    : options(std::move(options_)), trunk(std::move(trunk_)) {
  MOEKIT_CHECK(options.hidden_size() >= 1, "AttentiveRouter: hidden_size must be positive; got ",
               options.hidden_size());
  MOEKIT_CHECK(options.top_k() >= 0 && options.top_k() <= options.num_experts(),
               "AttentiveRouter: top_k must be 0 (all) or 1..", options.num_experts(),
               " (num_experts); got ", options.top_k());
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
  const auto query = hidden.matmul(query_weight).matmul(key_weight.t());
  const double scale = 1.0 / std::sqrt(static_cast<double>(options.hidden_size()));
  const auto logits = (keys * query.unsqueeze(0)).sum(2).t() * scale;
  return route(logits, options.top_k(), options.combine_weights());
}

void AttentiveRouterImpl::pretty_print(std::ostream& stream) const {
  stream << "moekit::nn::AttentiveRouter(hidden_size=" << options.hidden_size()
         << ", num_experts=" << options.num_experts() << ")";
}

void AttentiveRouterImpl::take_experts(ExpertEdit& edit) {
  const int64_t experts = edit.index.numel();
  options.num_experts(experts).top_k(std::min(options.top_k(), experts));
}

}  // namespace moekit::nn
