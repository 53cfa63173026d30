#include "moekit/train/optimizers/normalized_gd.h"

#include "moekit/core/error.h"
#include "moekit/train/optimizers/groups.h"

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
                           std::vector<size_t> expert_groups, GradientNorm norm, ExpertRows rows)
    : SGD(std::move(groups), defaults),
      expert_groups_(std::move(expert_groups)),
      norm_(norm),
      rows_(std::move(rows)) {
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
  rows_.step(*this, [this] { SGD::step(); });
  return {};
}

void check_normalized_gd(const NormalizedGdConfig& config, const OptimizerSite& site,
                         const std::string& where) {
  check_skip_idle(config.sgd.skip_idle_experts, site, where);
  const bool any = std::any_of(site.groups.begin(), site.groups.end(),
                               [](const ParameterGroup& group) { return group.normalize; });
  MOEKIT_CHECK(any, where, ".optimizer = \"normalized_gd\" and a group in ", where,
               ".groups with normalize = true belong together; got none");
}

std::unique_ptr<torch::optim::Optimizer> make_normalized_gd(const NormalizedGdConfig& config,
                                                            const OptimizerSite& site) {
  std::vector<size_t> normalized;
  for (size_t g = 0; g < site.groups.size(); ++g) {
    if (site.groups[g].normalize) normalized.push_back(g + 1);
  }
  const auto base = sgd_options(config.sgd, site.lr);
  return std::make_unique<NormalizedGd>(make_groups(site, base), base, std::move(normalized),
                                        config.gradient_norm,
                                        make_expert_rows(site, config.sgd.skip_idle_experts));
}

}  // namespace moekit::train
