#include "moekit/train/schedule_kinds.h"

#include <cmath>

#include "moekit/core/field_rule.h"

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

struct TwoStageConfig {
  double second_peak = 2.0 / 3;

  template <typename Field>
  void visit(Field&& field) {
    field("second_peak", second_peak, "of the second half's line, as a share of the first's",
          above(0, 1));
  }
};

/// Low-bit weights flip less and less as the rate falls; from the middle on it falls faster.
/// Source: Ma, Wang, Wei 2024, "The Era of 1-bit LLMs: Training Tips, Code and FAQ", section 1.
Schedule make_two_stage(const TwoStageConfig& config, const ScheduleSite&) {
  return [peak = config.second_peak](double done) {
    return (done < 0.5 ? 1 : peak) * (1 - done);
  };
}

}  // namespace

const std::vector<ScheduleKinds::Row>& ScheduleKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_constant>("constant", "as it is"),
      kind<&make_cosine>("cosine", "half a cosine, down to 0"),
      kind<&make_linear>("linear", "a line, down to 0"),
      kind<&make_two_stage>("two_stage", "a line down to 0, lower from the middle on (BitNet)"),
  };
  return kRows;
}

}  // namespace moekit::train
