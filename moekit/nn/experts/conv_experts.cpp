#include "moekit/nn/experts/conv_experts.h"

#include "moekit/core/error.h"
#include "moekit/nn/grouped_linear.h"

namespace moekit::nn {

ConvExpertsImpl::ConvExpertsImpl(ConvExpertsOptions options_) : options(std::move(options_)) {
  MOEKIT_CHECK(options.output_size() >= 1, "ConvExperts: output_size must be at least 1; got ",
               options.output_size());
  reset();
}

void ConvExpertsImpl::reset() {
  net = register_module("net", ConvNetStack(options.net()));
  const int64_t e = net->num_networks();
  weight =
      register_parameter("weight", torch::empty({e, options.output_size(), net->feature_size()}));
  bias = register_parameter("bias", torch::empty({e, options.output_size()}));
  reset_parameters({});
}

void ConvExpertsImpl::reset_parameters(const at::Generator& generator) {
  net->reset_parameters(generator);
  init_uniform_fan_in(weight, net->feature_size(), generator);
  init_uniform_fan_in(bias, net->feature_size(), generator);
}

ExpertOutput ConvExpertsImpl::forward_all(const torch::Tensor& images) {
  const auto features = net->forward(images);
  return {stacked_linear(torch::relu(features), weight, bias), features};
}

torch::Tensor ConvExpertsImpl::forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) {
  const auto features = net->forward_routed(rows, plan.offsets);
  return grouped_linear(torch::relu(features), weight, bias, plan.offsets);
}

void ConvExpertsImpl::take_experts(ExpertEdit& edit) {
  net->take_networks(edit);
  edit.take_rows(weight);
  edit.take_rows(bias);
  edit.then([this] { options.net(net->options); });
}

std::optional<std::vector<HiddenUnits>> ConvExpertsImpl::hidden_units() const {
  auto all = net->hidden_units("net.");
  all.back().axes.push_back({"weight", 1});
  return all;
}

void check_conv_experts(const ConvExpertsConfig& config, const LayerSite& site,
                        const std::string& where) {
  MOEKIT_CHECK(site.is_image(), where, ".kind = \"conv\" takes images; these are vectors");
  check_net(config.net, site.input, where + ".net");
}

std::shared_ptr<ExpertsImpl> make_conv_experts(const ConvExpertsConfig& config,
                                               const LayerSite& site) {
  return std::make_shared<ConvExpertsImpl>(ConvExpertsOptions(
      conv_net_options(config.net, site.input, site.num_experts), site.output_size));
}

}  // namespace moekit::nn
