#pragma once

#include "moekit/train/optimizer_kinds.h"

namespace moekit::train {

/// libtorch's Adam. Source: Kingma, Ba 2015, arXiv:1412.6980.
struct AdamConfig {
  double weight_decay = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("weight_decay", weight_decay, "");
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
