#include "moekit/tasks/federated/config.h"

namespace moekit::federated {

void validate(const Config& c) {
  check_values(c, "");
  MOEKIT_CHECK(c.per_round <= c.users, "per_round = ", c.per_round, ", but there are ", c.users,
               " users");
  c.data.set.check(data::DatasetSite{}, "data.options");
  c.split->check(SplitSite{}, "split");
  c.attack->check(AttackSite{c.users}, "attack");
  c.aggregation->check(merge::AggregateSite{c.per_round}, "aggregation");
}

}  // namespace moekit::federated
