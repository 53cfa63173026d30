#include "moekit/tasks/language/config.h"
#include "moekit/train/callbacks/shared_mask.h"
#include "moekit/train/callbacks/stop_on_loss.h"
#include "moekit/train/callbacks/usage_tracking.h"

namespace moekit::language {

const std::vector<CallbackKinds::Row>& CallbackKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&train::make_shared_mask, &train::check_shared_mask, CallbackSite>(
          "shared_mask", "steps that shared parameters sit out (MPOE)"),
      kind<&train::make_stop_on_loss, &train::check_stop_on_loss, CallbackSite>(
          "stop_on_loss", "stop by the training loss"),
      kind<&train::make_usage_tracking, &train::check_usage_tracking, CallbackSite>(
          "usage", "count how much experts are used"),
  };
  return kRows;
}

}  // namespace moekit::language
