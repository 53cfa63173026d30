#pragma once

#include "moekit/core/json.h"
#include "moekit/tasks/merged_linear/config.h"

namespace moekit::merged_linear {

/// How far the two paths of a layer with drawn weights and inputs are apart, each as the largest
/// difference over the largest number of the routed path:
///   float32, float64: "values", "experts" (gradients of weights and biases), "router" (and of task
///   vectors), "tokens" (gradient of the input)
/// and what each computes, counted (tensor/operation_counter.h):
///   operations: "routed", "merged", and "saving", the first over the second.
/// The loss weighs every output by a number of its own.
Json compare_paths(const Config& config);

}  // namespace moekit::merged_linear
