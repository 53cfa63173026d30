#pragma once

#include <torch/optim/sgd.h>

#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/train/optimizers/by_expert.h"
#include "moekit/train/optimizers/sgd.h"

namespace moekit::train {

/// What the gradients of one expert are divided by.
enum class GradientNorm {
  kJoint,      ///< norm of all its parameters' gradients as one vector (the paper's single matrix)
  kSumOfNorms  ///< sum of the norms of its parameters' gradients (the released code)
};

/// Normalized gradient descent for experts, plain (momentum, decayed) SGD for the rest: before each
/// step the gradient of every expert is divided by its own norm, so that all experts move by the
/// same length however small their outputs are. An expert without gradient keeps its weights, but
/// for momentum and weight decay.
/// Source: Chen et al. 2022, arXiv:2208.02813, section 3 (training algorithm, experts).
class NormalizedGd : public torch::optim::SGD {
 public:
  /// @param groups          as for SGD
  /// @param expert_groups   indices of the groups whose parameters are stacked [E, ...]
  /// @param rows            experts that are left out of steps; none unless given
  /// @throws ArgumentError when a group does not exist or its parameters disagree on E.
  NormalizedGd(std::vector<torch::optim::OptimizerParamGroup> groups,
               const torch::optim::SGDOptions& defaults, std::vector<size_t> expert_groups,
               GradientNorm norm, ExpertRows rows = {});
  torch::Tensor step(LossClosure closure = nullptr) override;

 private:
  std::vector<size_t> expert_groups_;
  GradientNorm norm_;
  ExpertRows rows_;
};

/// As a recipe says it: which parameters are experts, its groups say.
struct NormalizedGdConfig {
  SgdConfig sgd;
  GradientNorm gradient_norm = GradientNorm::kSumOfNorms;

  template <typename Field>
  void visit(Field&& field) {
    sgd.visit(field);
    field("gradient_norm", gradient_norm, "what the gradients of an expert are divided by");
  }
};
/// Refuses a recipe without a group that is normalised.
void check_normalized_gd(const NormalizedGdConfig& config, const OptimizerSite& site,
                         const std::string& where);
std::unique_ptr<torch::optim::Optimizer> make_normalized_gd(const NormalizedGdConfig& config,
                                                            const OptimizerSite& site);

}  // namespace moekit::train

template <>
struct moekit::EnumNames<moekit::train::GradientNorm> {
  static constexpr std::array<std::pair<train::GradientNorm, std::string_view>, 2> kTable{{
      {train::GradientNorm::kJoint, "joint"},
      {train::GradientNorm::kSumOfNorms, "sum_of_norms"},
  }};
};
