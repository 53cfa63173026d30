#pragma once

#include <memory>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts.h"
#include "moekit/nn/layer_site.h"

namespace moekit::nn {

/// Vector experts on images [N, C, H, W], which are flattened first.
class FlatExpertsImpl : public Cloneable<FlatExpertsImpl, ExpertsImpl> {
 public:
  explicit FlatExpertsImpl(std::shared_ptr<ExpertsImpl> inner);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return inner_->num_experts(); }
  int64_t output_size() const override { return inner_->output_size(); }
  int64_t token_dim() const override { return 3; }
  int64_t feature_size() const override { return inner_->feature_size(); }
  ExpertOutput forward_all(const torch::Tensor& images) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  void take_experts(ExpertEdit& edit) override { inner_->take_experts(edit); }
  std::vector<std::vector<torch::Tensor>> separate_parameters() const override {
    return inner_->separate_parameters();
  }
  torch::Tensor directions() const override { return inner_->directions(); }
  std::optional<std::vector<HiddenUnits>> hidden_units() const override;
  std::optional<MatrixPair> matrix_pair() const override;

 private:
  std::shared_ptr<ExpertsImpl> inner_;
};

/// `experts` as they are for vectors, behind a FlatExperts for images.
std::shared_ptr<ExpertsImpl> flatten_images(std::shared_ptr<ExpertsImpl> experts,
                                            const LayerSite& site);

}  // namespace moekit::nn
