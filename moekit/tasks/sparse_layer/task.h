#pragma once

#include "moekit/run/task.h"

namespace moekit::sparse_layer {

/// Layers of experts against their definitions: dropless and with capacity against a loop, a soft
/// mixture's shares and gradient, the balanced assignment against the optimum, a hash router's
/// experts, to summary.json.
const run::Task& task();

}  // namespace moekit::sparse_layer
