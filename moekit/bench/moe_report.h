#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "moekit/bench/layer_shape.h"
#include "moekit/bench/machine.h"
#include "moekit/core/config.h"
#include "moekit/kernels/common/format_paths.h"
#include "moekit/kernels/ffn/weight_format.h"

namespace moekit::bench {

/// One measurement. Operations: 6 * N * K * D * F forward, three times that with all gradients.
struct MoeBenchRow {
  std::string format;
  std::int64_t tokens = 0;
  int threads = 0;
  std::int64_t runs = 0;
  std::int64_t layers = 0;      ///< weights rotate over, so that no cache holds them
  double distinct_experts = 0;  ///< mean of the runs' plans, shared ones included
  double median_ms = 0;
  double p10_ms = 0;
  double operations_per_second = 0;
  double bytes_per_second = 0;  ///< of weights (train: read twice, gradients written once)
  /// Of weights, that pass on the mean before the same ones are read again; 0: none are.
  double reuse_bytes = 0;
  /// The better of the machine's figures just before and just after: what the fractions are of.
  MachineLimits limits;
  /// The larger of operations at peak, and bytes read and written at their bandwidths.
  double bound_ms = 0;
  double peak_fraction = 0;
  double best_peak_fraction = 0;  ///< of the fastest instructions that this machine has
  double read_fraction = 0;       ///< of the time, that moving these bytes alone would take at best
  /// Median of plain reads of as many bytes, in turns with the step; 0 for a training step.
  double plain_read_ms = 0;
  double bound_fraction = 0;  ///< bound_ms / median_ms
  /// Median of each baseline of the same run over ours: "libtorch, module per expert" and so on.
  std::vector<std::pair<std::string, double>> ratios;
};

struct MoeBenchReport {
  LayerShape shape;
  Pass pass;
  RoutingKind routing;
  kernels::FormatPaths paths;
  std::uint64_t seed;
  std::vector<std::pair<int, MachineLimits>> limits;  ///< by number of threads, at first
  std::vector<MoeBenchRow> rows;
};

/// What one step costs at least.
struct StepCost {
  double operations;
  double bytes_read;     ///< of weights
  double bytes_written;  ///< of their gradients
};

/// Sets a row's times and rates, and its fractions where `row.limits` were measured.
/// @param ms  of each run, sorted; at least one
void rate_row(MoeBenchRow& row, const std::vector<double>& ms, const StepCost& cost,
              const kernels::FormatInfo& format);

Json to_json(const MoeBenchReport& report);

}  // namespace moekit::bench
