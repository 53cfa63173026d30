#pragma once

#include "moekit/run/task.h"

namespace moekit::federated {

/// Federated learning under attack: accuracy and the weights of attackers and honest users of every
/// round go to metrics.jsonl, their means to summary.json.
const run::Task& task();

}  // namespace moekit::federated
