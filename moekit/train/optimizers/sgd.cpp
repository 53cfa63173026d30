#include "moekit/train/optimizers/sgd.h"

#include "moekit/train/optimizers/by_expert.h"
#include "moekit/train/optimizers/groups.h"

namespace moekit::train {

torch::optim::SGDOptions sgd_options(const SgdConfig& config, double lr) {
  return torch::optim::SGDOptions(lr).momentum(config.momentum).weight_decay(config.weight_decay);
}

void check_sgd(const SgdConfig& config, const OptimizerSite& site, const std::string& where) {
  check_no_normalize(site, where);
  check_skip_idle(config.skip_idle_experts, site, where);
}

std::unique_ptr<torch::optim::Optimizer> make_sgd(const SgdConfig& config,
                                                  const OptimizerSite& site) {
  const auto base = sgd_options(config, site.lr);
  return std::make_unique<ByExpert<torch::optim::SGD>>(
      make_groups(site, base), base, make_expert_rows(site, config.skip_idle_experts));
}

}  // namespace moekit::train
