#include "moekit/tasks/classification/config.h"
#include "moekit/tasks/classification/noisy_test.h"
#include "moekit/train/callbacks/merging.h"
#include "moekit/train/callbacks/patience.h"
#include "moekit/train/callbacks/stop_on_loss.h"
#include "moekit/train/callbacks/usage_tracking.h"

namespace moekit::classification {

const std::vector<CallbackKinds::Row>& CallbackKinds::rows() {
  using train::check_patience;
  using train::make_patience;
  using train::make_stop_on_loss;
  static const std::vector<Row> kRows = {
      kind<&make_patience, &check_patience, CallbackSite>("patience", "stop without a gain"),
      kind<&make_stop_on_loss, &train::check_stop_on_loss, CallbackSite>(
          "stop_on_loss", "stop by the training loss"),
      kind<&train::make_merging, &train::check_merging, CallbackSite>(
          "merging", "write over the least used expert"),
      kind<&train::make_usage_tracking, &train::check_usage_tracking, CallbackSite>(
          "usage", "count how much experts are used"),
      kind<&make_noisy_test, &check_noisy_test>("noisy_test", "judge with the noise left on"),
  };
  return kRows;
}

}  // namespace moekit::classification
