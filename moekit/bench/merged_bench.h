#pragma once

#include <functional>
#include <string>
#include <vector>

#include "moekit/bench/merged_options.h"
#include "moekit/core/json.h"
#include "moekit/nn/merge_cost.h"

namespace moekit::bench {

/// Both paths at one size, taking turns, so that what else the machine does meets both.
struct MergedBenchRow {
  std::int64_t sequences = 0, length = 0, top_k = 0;
  std::int64_t runs = 0;                            ///< of each path
  double routed_ms = 0, merged_ms = 0;              ///< medians
  nn::LinearPath chosen = nn::LinearPath::kRouted;  ///< what the cost model takes for D -> F

  /// Above 1: merging is faster.
  double ratio() const { return routed_ms / merged_ms; }
};

/// From which number of tokens on merging is faster, for B sequences and K experts.
struct Crossover {
  std::int64_t sequences = 0, top_k = 0;
  std::int64_t last_slower = 0;   ///< the longest measured sequence it is slower for; 0: none
  std::int64_t first_faster = 0;  ///< the shortest above that; 0: none
};

/// Gates are drawn at random, another set for each run, so that no merged weights are used again.
/// @param on_row  called with each row as it is done; may be empty
/// @param go_on   asked before each row; false stops
/// @throws ArgumentError for options that check_options() refuses
std::vector<MergedBenchRow> run_merged_bench(
    const MergedBenchOptions& options, const std::function<void(const MergedBenchRow&)>& on_row,
    const std::function<bool()>& go_on);

/// In the order of the rows.
std::vector<Crossover> crossovers(const std::vector<MergedBenchRow>& rows);

Json to_json(const MergedBenchOptions& options, const std::vector<MergedBenchRow>& rows);

}  // namespace moekit::bench
