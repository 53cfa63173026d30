#include "moekit/nn/experts/clamped_experts.h"

#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/nn/grouped_linear.h"

namespace moekit::nn {

ClampedExpertsImpl::ClampedExpertsImpl(ClampedExpertsOptions options_)
    : options(std::move(options_)) {
  MOEKIT_CHECK(
      options.hidden_size() >= 1 && options.intermediate_size() >= 1 && options.num_experts() >= 1,
      "ClampedExperts: sizes must be at least 1; got hidden_size ", options.hidden_size(),
      ", intermediate_size ", options.intermediate_size(), ", num_experts ", options.num_experts());
  MOEKIT_CHECK(options.limit() > 0, "ClampedExperts: limit must be above 0; got ", options.limit());
  reset();
}

void ClampedExpertsImpl::reset() {
  const int64_t e = options.num_experts();
  const int64_t d = options.hidden_size();
  const int64_t f = options.intermediate_size();
  gate_proj = register_parameter("gate_proj", torch::empty({e, f, d}));
  up_proj = register_parameter("up_proj", torch::empty({e, f, d}));
  down_proj = register_parameter("down_proj", torch::empty({e, d, f}));
  gate_bias = register_parameter("gate_bias", torch::empty({e, f}));
  up_bias = register_parameter("up_bias", torch::empty({e, f}));
  down_bias = register_parameter("down_bias", torch::empty({e, d}));
  reset_parameters({});
}

void ClampedExpertsImpl::reset_parameters(const at::Generator& generator) {
  for (auto* parameter : {&gate_proj, &up_proj, &gate_bias, &up_bias}) {
    init_uniform_fan_in(*parameter, options.hidden_size(), generator);
  }
  for (auto* parameter : {&down_proj, &down_bias}) {
    init_uniform_fan_in(*parameter, options.intermediate_size(), generator);
  }
}

torch::Tensor ClampedExpertsImpl::hidden(const torch::Tensor& gate, const torch::Tensor& up) const {
  constexpr double kSlope = 1.702;  // of the sigmoid that stands for the normal distribution's
  const auto g = gate.clamp_max(options.limit());
  return (up.clamp(-options.limit(), options.limit()) + 1) * g * torch::sigmoid(g * kSlope);
}

ExpertOutput ClampedExpertsImpl::forward_all(const torch::Tensor& tokens) {
  const auto up = stacked_linear(tokens, up_proj, up_bias);
  const auto inner = hidden(stacked_linear(tokens, gate_proj, gate_bias), up);
  return {stacked_linear(inner, down_proj, down_bias), up};
}

torch::Tensor ClampedExpertsImpl::forward_routed(const torch::Tensor& rows,
                                                 const RoutingPlan& plan) {
  const auto inner = hidden(grouped_linear(rows, gate_proj, gate_bias, plan.offsets),
                            grouped_linear(rows, up_proj, up_bias, plan.offsets));
  return grouped_linear(inner, down_proj, down_bias, plan.offsets);
}

void ClampedExpertsImpl::take_experts(ExpertEdit& edit) {
  for (auto* parameter : {&gate_proj, &up_proj, &down_proj, &gate_bias, &up_bias, &down_bias}) {
    edit.take_rows(*parameter);
  }
  edit.then([this, experts = edit.index.numel()] { options.num_experts(experts); });
}

}  // namespace moekit::nn
