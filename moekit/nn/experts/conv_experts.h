#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts.h"
#include "moekit/nn/experts/conv_net.h"
#include "moekit/nn/layer_site.h"

namespace moekit::nn {

/// Options of `ConvExperts`: the networks, and C outputs after them.
struct ConvExpertsOptions {
  ConvExpertsOptions(ConvNetOptions net, int64_t output_size)
      : net_(std::move(net)), output_size_(output_size) {}
  TORCH_ARG(ConvNetOptions, net);
  TORCH_ARG(int64_t, output_size);  ///< C
};

/// Experts that are small image classifiers: convolution blocks, fully connected layers up to the
/// features v (before their activation), ReLU, class layer.
/// Source: Krishnamurthy et al. 2023, arXiv:2302.14703, experts of the MNIST, FashionMNIST and
/// CIFAR-100 experiments.
class ConvExpertsImpl : public Cloneable<ConvExpertsImpl, ExpertsImpl> {
 public:
  explicit ConvExpertsImpl(ConvExpertsOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return net->num_networks(); }
  int64_t token_dim() const override { return 3; }
  int64_t output_size() const override { return options.output_size(); }
  int64_t feature_size() const override { return net->feature_size(); }
  ExpertOutput forward_all(const torch::Tensor& images) override;
  /// Batch normalisation in training mode uses the statistics of the routed images alone.
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  void take_experts(ExpertEdit& edit) override;
  std::optional<std::vector<HiddenUnits>> hidden_units() const override;

  ConvExpertsOptions options;
  ConvNetStack net{nullptr};
  torch::Tensor weight;  ///< class layer, [E, C, h]
  torch::Tensor bias;    ///< [E, C]
};
TORCH_MODULE(ConvExperts);

/// Convolutional experts as a recipe says them.
struct ConvExpertsConfig {
  NetOptions net = {{{1, 3, 0, false}}, {5, 32}};

  template <typename Field>
  void visit(Field&& field) {
    field("net", net, "network of each expert");
  }
};
void check_conv_experts(const ConvExpertsConfig& config, const LayerSite& site,
                        const std::string& where);
std::shared_ptr<ExpertsImpl> make_conv_experts(const ConvExpertsConfig& config,
                                               const LayerSite& site);

}  // namespace moekit::nn
