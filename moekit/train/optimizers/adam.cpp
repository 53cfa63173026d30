#include "moekit/train/optimizers/adam.h"

#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>

#include "moekit/train/optimizers/by_expert.h"
#include "moekit/train/optimizers/groups.h"

namespace moekit::train {
namespace {

template <typename Optimizer, typename Options>
std::unique_ptr<torch::optim::Optimizer> make(const AdamConfig& config, const OptimizerSite& site) {
  const auto base = Options(site.lr)
                        .weight_decay(config.weight_decay)
                        .betas({config.beta1, config.beta2})
                        .eps(config.eps);
  return std::make_unique<ByExpert<Optimizer>>(make_groups(site, base), base,
                                               make_expert_rows(site, config.skip_idle_experts));
}

}  // namespace

void check_adam(const AdamConfig& config, const OptimizerSite& site, const std::string& where) {
  check_no_normalize(site, where);
  check_skip_idle(config.skip_idle_experts, site, where);
}

std::unique_ptr<torch::optim::Optimizer> make_adam(const AdamConfig& config,
                                                   const OptimizerSite& site) {
  return make<torch::optim::Adam, torch::optim::AdamOptions>(config, site);
}

void check_adamw(const AdamWConfig& config, const OptimizerSite& site, const std::string& where) {
  check_adam(config, site, where);
}

std::unique_ptr<torch::optim::Optimizer> make_adamw(const AdamWConfig& config,
                                                    const OptimizerSite& site) {
  return make<torch::optim::AdamW, torch::optim::AdamWOptions>(config, site);
}

}  // namespace moekit::train
