#include "moekit/train/normalized_gd.h"

#include "moekit/core/error.h"

namespace moekit::train {
namespace {

/// Divides every expert's slices of the gradients by the expert's norm.
void normalize(const std::vector<torch::Tensor>& parameters, GradientNorm norm) {
  torch::Tensor size;  // [E]
  for (const auto& parameter : parameters) {
    if (!parameter.grad().defined()) continue;
    const auto squares = parameter.grad().flatten(1).square().sum(1);
    const auto own = norm == GradientNorm::kJoint ? squares : squares.sqrt();
    size = size.defined() ? size + own : own;
  }
  if (!size.defined()) return;
  if (norm == GradientNorm::kJoint) size = size.sqrt();
  const auto factor = torch::where(size > 0, size.reciprocal(), torch::zeros_like(size));
  for (const auto& parameter : parameters) {
    if (!parameter.grad().defined()) continue;
    std::vector<int64_t> shape(static_cast<size_t>(parameter.dim()), 1);
    shape[0] = parameter.size(0);
    parameter.grad().mul_(factor.reshape(shape));
  }
}

}  // namespace

NormalizedGd::NormalizedGd(std::vector<torch::optim::OptimizerParamGroup> groups,
                           const torch::optim::SGDOptions& defaults,
                           std::vector<size_t> expert_groups, GradientNorm norm)
    : SGD(std::move(groups), defaults), expert_groups_(std::move(expert_groups)), norm_(norm) {
  for (const size_t g : expert_groups_) {
    MOEKIT_CHECK(g < param_groups().size(), "NormalizedGd: group ", g, "; there are ",
                 param_groups().size());
    for (const auto& parameter : param_groups()[g].params()) {
      MOEKIT_CHECK(
          parameter.dim() >= 2 && parameter.size(0) == param_groups()[g].params()[0].size(0),
          "NormalizedGd: parameters of experts must be stacked [E, ...] with one E; got ",
          parameter.sizes());
    }
  }
}

torch::Tensor NormalizedGd::step(LossClosure closure) {
  MOEKIT_CHECK(closure == nullptr, "NormalizedGd: takes no closure");
  const torch::NoGradGuard no_grad;
  for (const size_t g : expert_groups_) normalize(param_groups()[g].params(), norm_);
  return SGD::step();
}

}  // namespace moekit::train
