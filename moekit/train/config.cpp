#include "moekit/train/config.h"

namespace moekit::train {

void check(const TrainConfig& config, const std::string& where) {
  const auto at_least = [&](const char* key, int64_t value, int64_t least) {
    check_at_least(where + "." + key, value, least);
  };
  at_least("epochs", config.epochs, 0);
  at_least("batch_size", config.batch_size, 1);
  MOEKIT_CHECK(config.lr > 0, where, ".lr must be positive; got ", config.lr);
  at_least("warmup_steps", config.warmup_steps, 0);
  check_at_least(where + ".clip_norm", config.clip_norm, 0.0);
  at_least("accumulate", config.accumulate, 1);
  at_least("checkpoint_steps", config.checkpoint_steps, 0);
  at_least("keep_every", config.keep_every, 0);
  at_least("evaluate_every", config.evaluate_every, 1);
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const TrainConfig& config,
                                                        const torch::nn::Module& module) {
  const OptimizerSite site{&module, config.lr, config.groups};
  config.optimizer.check(site, "train");
  return config.optimizer.make(site);
}

TrainerOptions trainer_options(const TrainConfig& config, uint64_t seed) {
  return {seed, config.clip_norm, config.accumulate, config.warmup_steps,
          config.schedule.make(ScheduleSite{})};
}

}  // namespace moekit::train
