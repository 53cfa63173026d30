#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "moekit/bench/moe_report.h"
#include "moekit/bench/timing.h"

namespace moekit::bench {

struct MoeBenchOptions {
  std::string shape = "olmoe";
  std::vector<std::int64_t> tokens{1, 4, 32, 512};
  std::vector<kernels::WeightFormat> formats;  ///< empty: all; train passes take f32 and bf16
  std::vector<int> threads{1};
  RoutingKind routing = RoutingKind::kUniform;
  std::filesystem::path trace;  ///< for kTrace: routing-trace file, first layer
  Pass pass = Pass::kForward;
  kernels::Isa isa = kernels::Isa::kReference;
  bool baselines = true;
  Enough enough;
  double cache_bytes = 0;  ///< of the last-level cache; 0: what the system says
  std::uint64_t seed = 1;
};

/// @param on_limits, on_row  called as results come; may be empty
/// @param go_on  asked before every measurement; the report ends early when it says no
/// @throws ArgumentError for options that cannot be, before any work.
MoeBenchReport run_moe_bench(
    const MoeBenchOptions& options,
    const std::function<void(int threads, const MachineLimits&)>& on_limits,
    const std::function<void(const MoeBenchRow&)>& on_row, const std::function<bool()>& go_on);

}  // namespace moekit::bench
