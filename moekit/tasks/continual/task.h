#pragma once

#include "moekit/run/task.h"

namespace moekit::continual {

/// Learning task after task: the accuracy on all tasks after each goes to metrics.jsonl, the matrix
/// with its figures, who was used and who merged to summary.json.
const run::Task& task();

}  // namespace moekit::continual
