#include "moekit/bench/merged_options.h"

#include <cmath>

#include "moekit/core/error.h"

namespace moekit::bench {

void check_options(const MergedBenchOptions& options) {
  const auto check = [](const char* what, std::int64_t value) {
    MOEKIT_CHECK(value >= 1 && value <= 65536, "bench: ", what, " must be 1..65536; got ", value);
  };
  MOEKIT_CHECK(
      !options.sequences.empty() && !options.lengths.empty() && !options.experts_chosen.empty(),
      "bench: needs at least one number of sequences, of tokens and of chosen experts");
  for (const auto n : options.sequences) check("sequences", n);
  for (const auto n : options.lengths) check("tokens of a sequence", n);
  check("experts", options.num_experts);
  check("hidden size", options.hidden_size);
  check("intermediate size", options.intermediate_size);
  for (const auto k : options.experts_chosen) {
    MOEKIT_CHECK(k >= 1 && k <= options.num_experts, "bench: chosen experts must be 1..",
                 options.num_experts, ", as many as there are; got ", k);
  }
  MOEKIT_CHECK(options.threads >= 1 && options.threads <= 256,
               "bench: threads must be 1..256; got ", options.threads);
  MOEKIT_CHECK(options.enough.runs >= 1, "bench: runs must be at least 1; got ",
               options.enough.runs);
  MOEKIT_CHECK(std::isfinite(options.enough.seconds) && options.enough.seconds >= 0,
               "bench: seconds must be a finite number from 0; got ", options.enough.seconds);
}

}  // namespace moekit::bench
