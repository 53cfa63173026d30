#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts.h"
#include "moekit/nn/layer_site.h"

namespace moekit::nn {

/// Options of `LinearExperts`. Example: `LinearExpertsOptions(64, 10, 4)`.
struct LinearExpertsOptions {
  LinearExpertsOptions() = default;
  LinearExpertsOptions(int64_t hidden_size, int64_t output_size, int64_t num_experts)
      : hidden_size_(hidden_size), output_size_(output_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size) = 0;  ///< D
  TORCH_ARG(int64_t, output_size) = 0;  ///< O
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E
  TORCH_ARG(bool, bias) = true;

 public:
  /// Names what a recipe chooses; sizes come from the layer.
  template <typename Field>
  void visit(Field&& field) {
    field("bias", bias_, "whether the experts have one");
  }
};

/// Experts that are one linear map each, stacked: weight[e] x + bias[e].
/// Source: Jacobs et al. 1991, Adaptive Mixtures of Local Experts (linear experts).
class LinearExpertsImpl : public Cloneable<LinearExpertsImpl, ExpertsImpl> {
 public:
  /// @throws ArgumentError unless all sizes are at least 1.
  explicit LinearExpertsImpl(LinearExpertsOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return weight.size(0); }
  int64_t output_size() const override { return options.output_size(); }
  ExpertOutput forward_all(const torch::Tensor& tokens) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  void take_experts(ExpertEdit& edit) override;
  std::optional<std::vector<HiddenUnits>> hidden_units() const override {
    return std::vector<HiddenUnits>{};
  }

  LinearExpertsOptions options;
  torch::Tensor weight;  ///< [E, O, D]
  torch::Tensor bias;    ///< [E, O], undefined without
};
TORCH_MODULE(LinearExperts);

/// Flattens images.
std::shared_ptr<ExpertsImpl> make_linear_experts(const LinearExpertsOptions& options,
                                                 const LayerSite& site);

}  // namespace moekit::nn
