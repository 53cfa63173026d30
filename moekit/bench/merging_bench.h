#pragma once

#include "moekit/bench/merging_options.h"
#include "moekit/core/json.h"

namespace moekit::bench {

struct MergingBench {
  double bytes = 0;            ///< read of all experts and written of their mean
  double read_per_second = 0;  ///< bytes, of memory, the best measured between the runs
  std::int64_t runs = 0;
  double mean_ms = 0;        ///< median, of `merge::average`
  double libtorch_ms = 0;    ///< median, of the terms added one by one in float32
  double match_seconds = 0;  ///< of `merge::align_units` on two experts, once; 0: not measured

  double bytes_per_second() const { return bytes / (mean_ms / 1e3); }
  double share_of_read() const { return bytes_per_second() / read_per_second; }
};

/// @throws ArgumentError for options that check_options() refuses
MergingBench run_merging_bench(const MergingBenchOptions& options);

Json to_json(const MergingBenchOptions& options, const MergingBench& result);

}  // namespace moekit::bench
