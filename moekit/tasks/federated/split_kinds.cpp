#include "moekit/tasks/federated/split_kinds.h"

#include "moekit/tasks/federated/splits/dirichlet_split.h"
#include "moekit/tasks/federated/splits/iid_split.h"
#include "moekit/tasks/federated/splits/shard_split.h"

namespace moekit::federated {

const std::vector<SplitKinds::Row>& SplitKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_iid_split>("iid", "at random, evenly"),
      kind<&make_shard_split>("shards", "a few shards each of the data sorted by label"),
      kind<&make_dirichlet_split>("dirichlet", "every class by shares from a Dirichlet"),
  };
  return kRows;
}

std::vector<int64_t> cut(const std::vector<int64_t>& list, int64_t part, int64_t parts) {
  const auto size = static_cast<int64_t>(list.size());
  return {list.begin() + size * part / parts, list.begin() + size * (part + 1) / parts};
}

}  // namespace moekit::federated
