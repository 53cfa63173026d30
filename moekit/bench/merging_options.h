#pragma once

#include <cstdint>

#include "moekit/bench/timing.h"

namespace moekit::bench {

/// What `moekit bench merging` measures: the mean of the experts of a gated layer, float32, beside
/// the memory's bandwidth, and the matching of two experts' hidden units.
struct MergingBenchOptions {
  std::int64_t num_experts = 64;  ///< OLMoE's layer
  std::int64_t hidden_size = 2048;
  std::int64_t intermediate_size = 1024;
  std::int64_t units = 4096;  ///< of each of the two experts that are matched; 0: not measured
  std::int64_t threads = 1;
  Enough enough{5, 1};
  std::uint64_t seed = 1;
};

/// @throws ArgumentError naming the option and its value, when it cannot be measured.
void check_options(const MergingBenchOptions& options);

}  // namespace moekit::bench
