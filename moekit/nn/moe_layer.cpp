#include "moekit/nn/moe_layer.h"

#include "moekit/core/error.h"
#include "moekit/nn/parts.h"

namespace moekit::nn {
MoEImpl::MoEImpl(std::shared_ptr<RouterImpl> router_, std::shared_ptr<ExpertsImpl> experts_,
                 MoEOptions options_, std::shared_ptr<ExpertsImpl> shared_experts_)
    : options(options_),
      router(std::move(router_)),
      experts(std::move(experts_)),
      shared_experts(std::move(shared_experts_)) {
  MOEKIT_CHECK(router != nullptr && experts != nullptr, "MoE: needs a router and experts");
  MOEKIT_CHECK(router->num_experts() == experts->num_experts(), "MoE: the router chooses of ",
               router->num_experts(), " experts; there are ", experts->num_experts());
  MOEKIT_CHECK(
      !router->needs_expert_features() || router->feature_size() == experts->feature_size(),
      "MoE: the router takes expert features of size ", router->feature_size(),
      "; the experts give ", experts->feature_size());
  MOEKIT_CHECK(!shared_experts || shared_experts->output_size() == experts->output_size(),
               "MoE: routed experts give ", experts->output_size(), " values a token; shared ones ",
               shared_experts ? shared_experts->output_size() : 0);
  MOEKIT_CHECK(options.capacity_factor() >= 0, "MoE: capacity_factor must be at least 0; got ",
               options.capacity_factor());
  register_part(*this, "router", router);
  register_part(*this, "experts", experts);
  register_part(*this, "shared_experts", shared_experts);
}

void MoEImpl::reset() {
  register_copy(*this, "router", router);
  register_copy(*this, "experts", experts);
  register_copy(*this, "shared_experts", shared_experts);
}

torch::Tensor MoEImpl::forward(const torch::Tensor& tokens) {
  return forward_with_routing(tokens).values;
}

MoEOutput MoEImpl::forward_with_routing(const torch::Tensor& tokens, RouterContext context) {
  context.training = is_training();
  ExpertOutput all;
  if (router->needs_expert_features()) {
    all = experts->forward_all(tokens);
    context.expert_features = all.features;
  }
  MoEOutput output;
  output.routing = router->forward(tokens, context);
  const auto& routing = output.routing;
  const int64_t capacity = expert_capacity(options.capacity_factor(), routing.num_tokens(),
                                           routing.top_k(), routing.num_experts());
  if (why_not_fused(tokens).empty()) {
    output.plan = make_dispatch_plan(routing.expert_index, routing.num_experts(), capacity);
    output.values = experts->forward_fused(tokens, output.plan, routing.combine_weight);
  } else if (routing.top_k() == routing.num_experts() && capacity == 0) {
    if (!all.values.defined()) all = experts->forward_all(tokens);
    output.values = (all.values * routing.combine_weight.t().unsqueeze(2)).sum(0);
  } else {
    output.plan = make_dispatch_plan(routing.expert_index, routing.num_experts(), capacity);
    const auto rows = experts->forward_dispatched(tokens, output.plan);
    output.values = combine(rows, output.plan, routing.combine_weight);
  }
  if (shared_experts)
    output.values = output.values + shared_experts->forward_all(tokens).values.sum(0);
  return output;
}

std::string MoEImpl::why_not_fused(const torch::Tensor& tokens) const {
  if (!options.fused()) return "the layer's option fused is off";
  if (router->needs_expert_features()) {
    return "the router takes the features of all experts, so all of them run";
  }
  return experts->why_not_fused(tokens);
}

}  // namespace moekit::nn
