#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "moekit/bench/layer_shape.h"
#include "moekit/bench/timing.h"
#include "moekit/kernels/common/format_paths.h"
#include "moekit/kernels/ffn/weight_format.h"

namespace moekit::bench {

struct MoeBenchOptions {
  std::string shape = "olmoe";
  std::vector<std::int64_t> tokens{1, 4, 32, 512};
  std::vector<kernels::WeightFormat> formats;  ///< empty: all; train passes take f32 and bf16
  std::vector<int> threads{1};
  RoutingKind routing = RoutingKind::kUniform;
  std::filesystem::path trace;  ///< for kTrace: routing-trace file, first layer
  Pass pass = Pass::kForward;
  std::optional<kernels::Isa> isa;  ///< none: what kernels::default_paths() chooses
  bool baselines = true;
  Enough enough;
  double cache_bytes = 0;  ///< of the last-level cache; 0: what the system says
  std::uint64_t seed = 1;
};

/// What runs which operands with these options.
inline kernels::FormatPaths paths_of(const MoeBenchOptions& options) {
  return options.isa ? kernels::FormatPaths(*options.isa) : kernels::default_paths();
}

/// @throws ArgumentError naming the option and its value, when it cannot be measured.
void check_options(const MoeBenchOptions& options);

}  // namespace moekit::bench
