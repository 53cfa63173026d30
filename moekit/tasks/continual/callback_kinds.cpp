#include "moekit/tasks/continual/config.h"
#include "moekit/train/callbacks/merging.h"
#include "moekit/train/callbacks/usage_tracking.h"

namespace moekit::continual {

const std::vector<CallbackKinds::Row>& CallbackKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&train::make_merging, &train::check_merging>("merging",
                                                        "write over the least used expert"),
      kind<&train::make_usage_tracking, &train::check_usage_tracking>(
          "usage", "count how much experts are used"),
  };
  return kRows;
}

}  // namespace moekit::continual
