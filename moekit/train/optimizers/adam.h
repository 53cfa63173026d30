#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/train/optimizer_kinds.h"

namespace moekit::train {

/// libtorch's Adam. Source: Kingma, Ba 2015, arXiv:1412.6980.
struct AdamConfig {
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  bool skip_idle_experts = false;

  template <typename Field>
  void visit(Field&& field) {
    field("weight_decay", weight_decay, "", at_least(0));
    field("beta1", beta1, "decay of the mean of gradients", at_least(0).below(1));
    field("beta2", beta2, "decay of the mean of their squares", at_least(0).below(1));
    field("eps", eps, "added to the root of the second mean", above(0));
    field("skip_idle_experts", skip_idle_experts, kSkipIdleDoc);
  }
};
void check_adam(const AdamConfig& config, const OptimizerSite& site, const std::string& where);
std::unique_ptr<torch::optim::Optimizer> make_adam(const AdamConfig& config,
                                                   const OptimizerSite& site);

/// libtorch's AdamW. Source: Loshchilov, Hutter 2019, arXiv:1711.05101.
struct AdamWConfig : AdamConfig {};
void check_adamw(const AdamWConfig& config, const OptimizerSite& site, const std::string& where);
std::unique_ptr<torch::optim::Optimizer> make_adamw(const AdamWConfig& config,
                                                    const OptimizerSite& site);

}  // namespace moekit::train
