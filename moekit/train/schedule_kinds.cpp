#include "moekit/train/schedule_kinds.h"

#include <cmath>

namespace moekit::train {
namespace {

Schedule make_constant(const NoOptions&, const ScheduleSite&) {
  return [](double) { return 1.0; };
}

Schedule make_cosine(const NoOptions&, const ScheduleSite&) {
  return [](double done) { return 0.5 * (1 + std::cos(M_PI * done)); };
}

Schedule make_linear(const NoOptions&, const ScheduleSite&) {
  return [](double done) { return 1 - done; };
}

}  // namespace

const std::vector<ScheduleKinds::Row>& ScheduleKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_constant>("constant", "as it is"),
      kind<&make_cosine>("cosine", "half a cosine, down to 0"),
      kind<&make_linear>("linear", "a line, down to 0"),
  };
  return kRows;
}

}  // namespace moekit::train
