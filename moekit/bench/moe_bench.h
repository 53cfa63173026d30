#pragma once

#include <functional>

#include "moekit/bench/moe_options.h"
#include "moekit/bench/moe_report.h"

namespace moekit::bench {

/// @param on_limits, on_row  called as results come; may be empty
/// @param go_on  asked before every measurement; the report ends early when it says no
/// @throws ArgumentError for options that cannot be, before any work.
MoeBenchReport run_moe_bench(
    const MoeBenchOptions& options,
    const std::function<void(int threads, const MachineLimits&)>& on_limits,
    const std::function<void(const MoeBenchRow&)>& on_row, const std::function<bool()>& go_on);

}  // namespace moekit::bench
