#include "moekit/tasks/federated/attacks/stale_model.h"

namespace moekit::federated {

void check_stale_model(const StaleModelOptions& options, const AttackSite& site,
                       const std::string& where) {
  check_attackers(options, site, where);
}

std::unique_ptr<Attack> make_stale_model(const StaleModelOptions& options, const AttackSite&) {
  return std::make_unique<StaleModel>(options);
}

}  // namespace moekit::federated
