#pragma once

#include <torch/optim/sgd.h>

#include "moekit/core/field_rule.h"
#include "moekit/train/optimizer_kinds.h"

namespace moekit::train {

/// libtorch's SGD.
struct SgdConfig {
  double momentum = 0;
  double weight_decay = 0;
  bool skip_idle_experts = false;

  template <typename Field>
  void visit(Field&& field) {
    field("momentum", momentum, "", at_least(0));
    field("weight_decay", weight_decay, "", at_least(0));
    field("skip_idle_experts", skip_idle_experts, kSkipIdleDoc);
  }
};
void check_sgd(const SgdConfig& config, const OptimizerSite& site, const std::string& where);
std::unique_ptr<torch::optim::Optimizer> make_sgd(const SgdConfig& config,
                                                  const OptimizerSite& site);

torch::optim::SGDOptions sgd_options(const SgdConfig& config, double lr);

}  // namespace moekit::train
