#include "moekit/tasks/classification/config.h"

namespace moekit::classification {

void validate(const Config& config) {
  const auto at_least = [](const char* key, int64_t value, int64_t least) {
    train::check_at_least(std::string(key), value, least);
  };
  at_least("seed", config.seed, 0);
  at_least("threads", config.threads, 1);
  at_least("data.train_limit", config.data.train_limit, 0);
  at_least("data.test_limit", config.data.test_limit, 0);
  at_least("data.holdout", config.data.holdout, 0);
  at_least("data.validation", config.data.validation, 0);
  config.data.set.check(data::DatasetSite{}, "data.options");
  train::check(config.train.loop, "train");
  const InitConfig& init = config.init;
  MOEKIT_CHECK(init.router_from.empty() || init.trunk_from.empty(),
               "init.router_from and init.trunk_from: only one can be given");
  at_least("init.experts_seed", init.experts_seed, 0);
}

Config read_config(const std::filesystem::path& run) {
  Config config;
  bind_config(read_toml(run / "config.toml"), config);
  return config;
}

}  // namespace moekit::classification
