#include "moekit/nn/experts/flat_experts.h"

#include "moekit/nn/parts.h"

namespace moekit::nn {

FlatExpertsImpl::FlatExpertsImpl(std::shared_ptr<ExpertsImpl> inner) : inner_(std::move(inner)) {
  register_part(*this, "inner", inner_);
}

void FlatExpertsImpl::reset() { register_copy(*this, "inner", inner_); }

void FlatExpertsImpl::reset_parameters(const at::Generator& generator) {
  inner_->reset_parameters(generator);
}

ExpertOutput FlatExpertsImpl::forward_all(const torch::Tensor& images) {
  return inner_->forward_all(images.flatten(1));
}

torch::Tensor FlatExpertsImpl::forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) {
  return inner_->forward_routed(rows.flatten(1), plan);
}

std::optional<std::vector<HiddenUnits>> FlatExpertsImpl::hidden_units() const {
  auto layers = inner_->hidden_units();
  if (!layers) return layers;
  for (auto& layer : *layers) {
    for (auto& axis : layer.axes) axis.tensor = "inner." + axis.tensor;
  }
  return layers;
}

std::optional<MatrixPair> FlatExpertsImpl::matrix_pair() const {
  auto pair = inner_->matrix_pair();
  if (!pair) return pair;
  for (auto* name : {&pair->up, &pair->down, &pair->up_bias, &pair->down_bias}) {
    if (!name->empty()) *name = "inner." + *name;
  }
  return pair;
}

std::shared_ptr<ExpertsImpl> flatten_images(std::shared_ptr<ExpertsImpl> experts,
                                            const LayerSite& site) {
  if (!site.is_image()) return experts;
  return std::make_shared<FlatExpertsImpl>(std::move(experts));
}

}  // namespace moekit::nn
