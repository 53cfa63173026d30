#include "moekit/nn/experts/linear_experts.h"

#include "moekit/core/error.h"
#include "moekit/nn/experts/flat_experts.h"
#include "moekit/nn/grouped_linear.h"

namespace moekit::nn {

LinearExpertsImpl::LinearExpertsImpl(LinearExpertsOptions options_) : options(std::move(options_)) {
  MOEKIT_CHECK(
      options.hidden_size() >= 1 && options.output_size() >= 1 && options.num_experts() >= 1,
      "LinearExperts: sizes must be at least 1; got hidden_size ", options.hidden_size(),
      ", output_size ", options.output_size(), ", num_experts ", options.num_experts());
  reset();
}

void LinearExpertsImpl::reset() {
  weight = register_parameter("weight", torch::empty({options.num_experts(), options.output_size(),
                                                      options.hidden_size()}));
  if (options.bias()) {
    bias = register_parameter("bias", torch::empty({options.num_experts(), options.output_size()}));
  }
  reset_parameters({});
}

void LinearExpertsImpl::reset_parameters(const at::Generator& generator) {
  init_uniform_fan_in(weight, options.hidden_size(), generator);
  if (bias.defined()) init_uniform_fan_in(bias, options.hidden_size(), generator);
}

ExpertOutput LinearExpertsImpl::forward_all(const torch::Tensor& tokens) {
  return {stacked_linear(tokens, weight, bias), {}};
}

torch::Tensor LinearExpertsImpl::forward_routed(const torch::Tensor& rows,
                                                const RoutingPlan& plan) {
  return grouped_linear(rows, weight, bias, plan.offsets);
}

void LinearExpertsImpl::take_experts(ExpertEdit& edit) {
  edit.take_rows(weight);
  edit.take_rows(bias);
  edit.then([this, experts = edit.index.numel()] { options.num_experts(experts); });
}

std::shared_ptr<ExpertsImpl> make_linear_experts(const LinearExpertsOptions& options,
                                                 const LayerSite& site) {
  return flatten_images(std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(options)
                                                                .hidden_size(site.size())
                                                                .output_size(site.output_size)
                                                                .num_experts(site.num_experts)),
                        site);
}

}  // namespace moekit::nn
