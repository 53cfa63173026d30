#include "moekit/nn/moe_layer.h"

#include "moekit/core/error.h"
#include "moekit/nn/parts.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/token_rows.h"
#include "moekit/tensor/operation_counter.h"

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
  const auto traits = router->traits();
  check_capacity(options.capacity(), traits.top_k,
                 experts->num_experts() - experts->num_computing(), "MoE: ");
  check_trainable(traits, traits.no_weight_gradient, "MoE: ");
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
  output.routing.sequence = rows.context.sequence;
  return output;
}

MoEOutput MoEImpl::forward_rows(const torch::Tensor& tokens, RouterContext context) {
  context.training = is_training();
  const auto inputs = as_parameters(tokens, *experts);
  ExpertOutput all;
  if (router->needs_expert_features()) {
    all = tensor::counted("experts", [&] { return experts->forward_all(inputs); });
    context.expert_features = all.features;
  }
  MoEOutput output;
  output.routing = tensor::counted("router", [&] { return router->forward(tokens, context); });
  const auto& routing = output.routing;
  const auto& limits = options.capacity();
  const auto capacity = capacity_of(limits, is_training(), routing, experts->num_computing());
  const bool fused = why_inputs_not_fused(inputs).empty();
  auto weights = routing.weight;
  if (fused || !routing.takes_all || !capacity.empty()) {
    output.plan =
        make_plan(routing, capacity,
                  capacity.empty() ? torch::Tensor() : capacity_order(limits.priority, routing));
    if (limits.renormalize && output.plan.num_dropped() > 0) {
      weights = renormalize_kept(weights, routing, output.plan);
    }
  }
  output.values = tensor::counted("experts", [&] {
    if (fused) {
      return experts->forward_fused(inputs, output.plan, weights, options.runtime());
    }
    if (routing.takes_all && capacity.empty()) {
      if (!all.values.defined()) all = experts->forward_all(inputs);
      const auto type = compute_type(all.values, routing.weight);
      const auto weight =
          routing.weight.to(type).view({routing.num_tokens(), routing.num_experts()});
      return (all.values.to(type) * weight.t().unsqueeze(2)).sum(0).to(all.values.scalar_type());
    }
    return combine(experts->forward_dispatched(inputs, output.plan), output.plan, weights);
  });
  if (shared_experts) {
    const auto shared = tensor::counted("shared", [&] {
      return shared_experts->forward_all(as_parameters(tokens, *shared_experts)).values;
    });
    output.values = (at_least_float(output.values) + at_least_float(shared).sum(0))
                        .to(output.values.scalar_type());
  }
  return output;
}

std::string MoEImpl::why_not_fused(const torch::Tensor& tokens) const {
  return why_inputs_not_fused(as_parameters(tokens, *experts));
}

std::string MoEImpl::why_inputs_not_fused(const torch::Tensor& inputs) const {
  if (!options.fused()) return "the layer's option fused is off";
  if (router->needs_expert_features()) {
    return "the router takes the features of all experts, so all of them run";
  }
  return experts->why_not_fused(inputs);
}

}  // namespace moekit::nn
