#pragma once

#include "moekit/run/task.h"

namespace moekit::soft_routed {

/// Learning of a soft-routed teacher by a student: order parameters and the loss go to
/// metrics.jsonl; times at which overlaps pass 0.9 and the losses of all stages to summary.json.
const run::Task& task();

}  // namespace moekit::soft_routed
