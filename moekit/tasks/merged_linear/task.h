#pragma once

#include "moekit/run/task.h"

namespace moekit::merged_linear {

/// A linear layer of experts whose tokens share gates, merged against routed: how far values and
/// gradients are apart, what each computes and how long it takes, and the operations of a whole
/// encoder by formula, to summary.json.
const run::Task& task();

}  // namespace moekit::merged_linear
