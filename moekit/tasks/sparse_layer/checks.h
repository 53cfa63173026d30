#pragma once

#include "moekit/tasks/sparse_layer/config.h"

/// Layers of experts held against what they are by definition. Distances are the largest difference
/// over the largest value.
namespace moekit::sparse_layer {

/// A layer without capacity against a loop over tokens and experts: "fused" on the kernel,
/// "composed" of libtorch's operations, "capacity" with room for E/K times a fair share, where
/// nothing is dropped either.
Json check_dropless(const Config& config);

/// A soft mixture: "columns" and "rows", how far the shares of dispatch and combine are from a sum
/// of 1; "gradient", slopes along drawn directions by the gradient against finite differences.
Json check_soft(const Config& config);

/// The balanced assignment: "uneven", the largest distance of an expert's tokens from T/E; "gap",
/// the optimum's sum of scores less this one's, over what an auction may lose, T times a fiftieth
/// of the scores' range.
Json check_balanced(const Config& config);

/// The hash router: "moved", tokens of an id that went to another expert than the id's first one;
/// "entropy", of the experts' tokens, over that of equal shares.
Json check_hash(const Config& config);

}  // namespace moekit::sparse_layer
