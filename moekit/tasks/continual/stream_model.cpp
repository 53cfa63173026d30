#include "moekit/tasks/continual/stream_model.h"

#include "moekit/tasks/continual/adapters.h"
#include "moekit/tasks/continual/own_networks.h"
#include "moekit/tasks/continual/whole_network.h"

namespace moekit::continual {

const std::vector<StreamModelKinds::Row>& StreamModelKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_adapters, &check_adapters>(
          "adapters", "a frozen network with experts beside it and a router for each task"),
      kind<&make_whole_network, &check_whole_network>("whole",
                                                      "a network that learns on, task after task"),
      kind<&make_own_networks, &check_own_networks>(
          "own", "a network for each task, the first layers of which may be shared"),
  };
  return kRows;
}

}  // namespace moekit::continual
