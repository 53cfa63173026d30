#include "moekit/tasks/classification/config.h"

namespace moekit::classification {

void validate(const Config& config) {
  check_values(config, "");
  config.data.set.check(data::DatasetSite{}, "data.options");
  train::check(config.train.loop, "train");
  const InitConfig& init = config.init;
  MOEKIT_CHECK(init.router_from.empty() || init.trunk_from.empty(),
               "init.router_from and init.trunk_from: only one can be given");
}

Config read_config(const std::filesystem::path& run) {
  Config config;
  bind_config(read_toml(run / "config.toml"), config);
  return config;
}

}  // namespace moekit::classification
