#include "moekit/train/optimizers/adam.h"

#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>

#include "moekit/train/optimizers/groups.h"

namespace moekit::train {

void check_adam(const AdamConfig& config, const OptimizerSite& site, const std::string& where) {
  check_weight_decay(config.weight_decay, where);
  check_no_normalize(site, where);
}

std::unique_ptr<torch::optim::Optimizer> make_adam(const AdamConfig& config,
                                                   const OptimizerSite& site) {
  const auto base = torch::optim::AdamOptions(site.lr).weight_decay(config.weight_decay);
  return std::make_unique<torch::optim::Adam>(make_groups(site, base), base);
}

void check_adamw(const AdamWConfig& config, const OptimizerSite& site, const std::string& where) {
  check_adam(config, site, where);
}

std::unique_ptr<torch::optim::Optimizer> make_adamw(const AdamWConfig& config,
                                                    const OptimizerSite& site) {
  const auto base = torch::optim::AdamWOptions(site.lr).weight_decay(config.weight_decay);
  return std::make_unique<torch::optim::AdamW>(make_groups(site, base), base);
}

}  // namespace moekit::train
