#pragma once

#include <torch/optim/sgd.h>

#include "moekit/train/optimizer_kinds.h"

namespace moekit::train {

/// libtorch's SGD.
struct SgdConfig {
  double momentum = 0;
  double weight_decay = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("momentum", momentum, "");
    field("weight_decay", weight_decay, "");
  }
};
void check_sgd(const SgdConfig& config, const OptimizerSite& site, const std::string& where);
std::unique_ptr<torch::optim::Optimizer> make_sgd(const SgdConfig& config,
                                                  const OptimizerSite& site);

/// @throws ArgumentError for negative values.
void check_sgd_values(const SgdConfig& config, const std::string& where);
torch::optim::SGDOptions sgd_options(const SgdConfig& config, double lr);

}  // namespace moekit::train
