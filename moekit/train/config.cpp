#include "moekit/train/config.h"

namespace moekit::train {

void check(const TrainConfig& config, const std::string& where) {
  check_values(config, where);
  config.schedule.check(ScheduleSite{}, where);
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const TrainConfig& config,
                                                        torch::nn::Module& module) {
  check_values(config, "train");
  const OptimizerSite site{&module, config.lr, config.groups};
  config.optimizer.check(site, "train");
  return config.optimizer.make(site);
}

TrainerOptions trainer_options(const TrainConfig& config, uint64_t seed) {
  return {seed, config.clip_norm, config.accumulate, config.warmup_steps,
          config.schedule.make(ScheduleSite{})};
}

}  // namespace moekit::train
