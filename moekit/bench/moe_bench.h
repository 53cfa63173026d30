#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/core/enum_names.h"
#include "moekit/kernels/common/isa.h"
#include "moekit/kernels/ffn/weight_format.h"
#include "moekit/kernels/machine.h"

namespace moekit::bench {

/// A layer to measure: E experts (K chosen), D to F to D, SwiGLU, and shared experts as one more
/// of their joint size.
struct LayerShape {
  std::string_view name;
  std::int64_t num_experts, top_k, hidden_size, intermediate_size, shared_size;
  std::string_view source;
};
const std::vector<LayerShape>& layer_shapes();
/// @throws ArgumentError naming what there is.
const LayerShape& find_layer_shape(std::string_view name);

enum class RoutingKind { kUniform, kZipf, kOne, kTrace };
enum class Pass { kForward, kTrain };

struct MoeBenchOptions {
  std::string shape = "olmoe";
  std::vector<std::int64_t> tokens{1, 4, 32, 512};
  std::vector<kernels::WeightFormat> formats;  ///< empty: all; train passes take f32 and bf16
  std::vector<int> threads{1};
  RoutingKind routing = RoutingKind::kUniform;  ///< zipf: an expert of rank r has odds 1 / r
  std::filesystem::path trace;                  ///< for kTrace: routing-trace file, first layer
  Pass pass = Pass::kForward;
  kernels::Isa isa = kernels::Isa::kReference;
  bool baselines = true;
  int min_runs = 20;
  double min_seconds = 1;
  double cache_bytes = 0;  ///< of the last-level cache; 0: what the system says
  std::uint64_t seed = 1;
};

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
  /// The better of the machine's figures just before and just after: what the fractions are of.
  kernels::MachineLimits limits;
  double bound_ms = 0;  ///< the larger of operations at peak and bytes at read bandwidth
  double peak_fraction = 0;
  double read_fraction = 0;
  double bound_fraction = 0;  ///< bound_ms / median_ms
  /// Median of each baseline of the same run over ours: "libtorch, module per expert" and so on.
  std::vector<std::pair<std::string, double>> ratios;
};

struct MoeBenchReport {
  kernels::Isa isa;
  std::vector<std::pair<int, kernels::MachineLimits>> limits;  ///< by number of threads, at first
  std::vector<MoeBenchRow> rows;
};

/// @param on_limits, on_row  called as results come; may be empty
/// @param go_on  asked before every measurement; the report ends early when it says no
/// @throws ArgumentError for options that cannot be, before any work.
MoeBenchReport run_moe_bench(
    const MoeBenchOptions& options,
    const std::function<void(int threads, const kernels::MachineLimits&)>& on_limits,
    const std::function<void(const MoeBenchRow&)>& on_row, const std::function<bool()>& go_on);

Json to_json(const MoeBenchOptions& options, const MoeBenchReport& report);

}  // namespace moekit::bench

template <>
struct moekit::EnumNames<moekit::bench::RoutingKind> {
  static constexpr std::array<std::pair<bench::RoutingKind, std::string_view>, 4> kTable{{
      {bench::RoutingKind::kUniform, "uniform"},
      {bench::RoutingKind::kZipf, "zipf"},
      {bench::RoutingKind::kOne, "one"},
      {bench::RoutingKind::kTrace, "trace"},
  }};
};
template <>
struct moekit::EnumNames<moekit::bench::Pass> {
  static constexpr std::array<std::pair<bench::Pass, std::string_view>, 2> kTable{{
      {bench::Pass::kForward, "forward"},
      {bench::Pass::kTrain, "train"},
  }};
};
