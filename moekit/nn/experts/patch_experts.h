#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/activation.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts.h"
#include "moekit/nn/layer_site.h"

namespace moekit::nn {

/// Options of `PatchExperts`. Example: `PatchExpertsOptions(50, 2, 8).activation(kCubic)`.
struct PatchExpertsOptions {
  PatchExpertsOptions() = default;
  PatchExpertsOptions(int64_t dim, int64_t num_classes, int64_t num_experts)
      : dim_(dim), num_classes_(num_classes), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, dim) = 0;          ///< d of a patch
  TORCH_ARG(int64_t, num_classes) = 0;  ///< C
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E
  TORCH_ARG(int64_t, num_filters) = 8;  ///< J filters a class
  TORCH_ARG(Activation, activation) = Activation::kRelu;
  TORCH_ARG(double, init_scale) = 1;  ///< factor on the usual initial weights

 public:
  /// Names what a recipe chooses; sizes come from the layer.
  template <typename Field>
  void visit(Field&& field) {
    field("num_filters", num_filters_, "J filters a class", at_least(1));
    field("activation", activation_, "of a filter's products");
    field("init_scale", init_scale_, "factor on the usual initial weights", above(0));
  }
};

/// Two-layer convolutional networks over the patches of a sample, whose second layer is fixed to
/// ones: logit_c(x) = sum_{j<J} sum_p act(<w_{c,j}, x_p> + b_{c,j}). With the identity as
/// activation a linear classifier of the summed patches, computed as such.
/// Source: Chen et al. 2022, arXiv:2208.02813, section 3 (experts); two logits with J filters each
/// and biases as in the released code.
class PatchExpertsImpl : public Cloneable<PatchExpertsImpl, ExpertsImpl> {
 public:
  /// @throws ArgumentError unless all sizes are at least 1 and the activation is not a gated one.
  explicit PatchExpertsImpl(PatchExpertsOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return weight.size(0); }
  int64_t output_size() const override { return options.num_classes(); }
  int64_t token_dim() const override { return 3; }
  /// @param samples  [N, 1, P, d] or [N, P, d]
  ExpertOutput forward_all(const torch::Tensor& samples) override;
  torch::Tensor forward_dispatched(const torch::Tensor& tokens, const RoutingPlan& plan) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  void take_experts(ExpertEdit& edit) override;
  torch::Tensor directions() const override { return weight.detach(); }
  /// The filters of a class, for each class.
  std::optional<std::vector<HiddenUnits>> hidden_units() const override;

  PatchExpertsOptions options;
  torch::Tensor weight;  ///< [E, C * J, d], filters of class 0 first
  torch::Tensor bias;    ///< [E, C * J]

 private:
  /// @param rows  which sample each assignment reads, or undefined: one after the other
  torch::Tensor run(const torch::Tensor& samples, const torch::Tensor& rows,
                    const std::vector<int64_t>& offsets);
};
TORCH_MODULE(PatchExperts);

void check_patch_experts(const PatchExpertsOptions& options, const LayerSite& site,
                         const std::string& where);
/// On samples {1, P, d}.
std::shared_ptr<ExpertsImpl> make_patch_experts(const PatchExpertsOptions& options,
                                                const LayerSite& site);

}  // namespace moekit::nn
