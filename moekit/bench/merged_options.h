#pragma once

#include <cstdint>
#include <vector>

#include "moekit/bench/layer_shape.h"
#include "moekit/bench/timing.h"

namespace moekit::bench {

/// What `moekit bench merged` measures: a feed-forward layer of two linear layers of experts whose
/// sequences share a gate, D -> F -> D, each chosen expert against their merged weights.
struct MergedBenchOptions {
  std::vector<std::int64_t> sequences{8, 1};             ///< B
  std::vector<std::int64_t> lengths{8, 32, 128};         ///< L, tokens of a sequence
  std::vector<std::int64_t> experts_chosen{1, 2, 4, 8};  ///< K, each at most num_experts
  std::int64_t num_experts = 16;
  std::int64_t hidden_size = 256;
  std::int64_t intermediate_size = 1024;
  std::int64_t threads = 1;
  Pass pass = Pass::kForward;
  Enough enough{20, 0.5};
  std::uint64_t seed = 1;
};

/// @throws ArgumentError naming the option and its value, when it cannot be measured.
void check_options(const MergedBenchOptions& options);

}  // namespace moekit::bench
