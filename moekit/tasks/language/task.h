#pragma once

#include "moekit/run/task.h"

namespace moekit::language {

/// A decoder that learns texts of several domains: loss and bits per byte of each go to
/// metrics.jsonl, with the load of every mixture's experts by domain; tokenizer.json lies beside
/// summary.json.
const run::Task& task();

}  // namespace moekit::language
