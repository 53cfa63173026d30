#include "moekit/tasks/continual/protection.h"

#include "moekit/tasks/continual/distillation.h"
#include "moekit/tasks/continual/replay.h"
#include "moekit/tasks/continual/weight_anchor.h"

namespace moekit::continual {

const std::vector<ProtectionKinds::Row>& ProtectionKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_replay, &check_replay>("replay", "examples of earlier tasks again"),
      kind<&make_distillation, &check_distillation>("lwf", "answers as before the task"),
      kind<&make_weight_anchor, &check_weight_anchor>("ewc", "weights that mattered stay near"),
  };
  return kRows;
}

}  // namespace moekit::continual
