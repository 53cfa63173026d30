#include "moekit/train/optimizers/sgd.h"

#include "moekit/core/error.h"
#include "moekit/train/optimizers/groups.h"

namespace moekit::train {

void check_sgd_values(const SgdConfig& config, const std::string& where) {
  MOEKIT_CHECK(config.momentum >= 0, where, ".momentum must be at least 0; got ", config.momentum);
  check_weight_decay(config.weight_decay, where);
}

torch::optim::SGDOptions sgd_options(const SgdConfig& config, double lr) {
  return torch::optim::SGDOptions(lr).momentum(config.momentum).weight_decay(config.weight_decay);
}

void check_sgd(const SgdConfig& config, const OptimizerSite& site, const std::string& where) {
  check_sgd_values(config, where);
  check_no_normalize(site, where);
}

std::unique_ptr<torch::optim::Optimizer> make_sgd(const SgdConfig& config,
                                                  const OptimizerSite& site) {
  const auto base = sgd_options(config, site.lr);
  return std::make_unique<torch::optim::SGD>(make_groups(site, base), base);
}

}  // namespace moekit::train
