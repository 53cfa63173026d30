#include "moekit/nn/moe_layer.h"

#include "moekit/core/error.h"
#include "moekit/nn/parts.h"
#include "moekit/nn/token_rows.h"

namespace moekit::nn {

MoEImpl::MoEImpl(std::shared_ptr<RouterImpl> router_, std::shared_ptr<ExpertsImpl> experts_,
                 MoEOptions options_, std::shared_ptr<ExpertsImpl> shared_experts_)
    : options(std::move(options_)),
      router(std::move(router_)),
      experts(std::move(experts_)),
      shared_experts(std::move(shared_experts_)) {
  join_parts("MoE", router.get(), experts.get());
  MOEKIT_CHECK(!shared_experts || shared_experts->output_size() == experts->output_size(),
               "MoE: routed experts give ", experts->output_size(), " values a token; shared ones ",
               shared_experts ? shared_experts->output_size() : 0);
  MOEKIT_CHECK(options.capacity_factor() >= 0, "MoE: capacity_factor must be at least 0; got ",
               options.capacity_factor());
  MOEKIT_CHECK(options.runtime() != nullptr, "MoE: needs a runtime");
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

MoEOutput MoEImpl::forward_with_routing(const torch::Tensor& tokens, const RouterContext& context) {
  const TokenRows rows(tokens, context, experts->token_dim());
  auto output = forward_rows(rows.tokens, rows.context);
  output.values = rows.restore(output.values);
  output.tokens = rows.tokens;
  output.routing.rows = rows.rows;
  return output;
}

MoEOutput MoEImpl::forward_rows(const torch::Tensor& tokens, RouterContext context) {
  context.training = is_training();
  ExpertOutput all;
  if (router->needs_expert_features()) {
    all = experts->forward_all(tokens);
    context.expert_features = all.features;
  }
  MoEOutput output;
  output.routing = router->forward(tokens, context);
  const auto& routing = output.routing;
  const int64_t capacity =
      expert_capacity(options.capacity_factor(), routing.num_assignments(), routing.num_experts());
  if (why_not_fused(tokens).empty()) {
    output.plan = make_plan(routing, capacity);
    output.values = experts->forward_fused(tokens, output.plan, routing.weight, options.runtime());
  } else if (routing.takes_all && capacity == 0) {
    if (!all.values.defined()) all = experts->forward_all(tokens);
    const auto weight = routing.weight.view({routing.num_tokens(), routing.num_experts()});
    output.values = (all.values * weight.t().unsqueeze(2)).sum(0);
  } else {
    output.plan = make_plan(routing, capacity);
    output.values =
        combine(experts->forward_dispatched(tokens, output.plan), output.plan, routing.weight);
  }
  if (shared_experts) {
    output.values = output.values + shared_experts->forward_all(tokens).values.sum(0);
  }
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
