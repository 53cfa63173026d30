#include "moekit/bench/merging_options.h"

#include <cmath>

#include "moekit/core/error.h"

namespace moekit::bench {

void check_options(const MergingBenchOptions& options) {
  const auto check = [](const char* what, std::int64_t value, std::int64_t least,
                        std::int64_t most) {
    MOEKIT_CHECK(value >= least && value <= most, "bench: ", what, " must be ", least, "..", most,
                 "; got ", value);
  };
  check("experts", options.num_experts, 2, 65536);
  check("hidden size", options.hidden_size, 1, 65536);
  check("intermediate size", options.intermediate_size, 1, 65536);
  check("units", options.units, 0, 16384);
  check("threads", options.threads, 1, 256);
  check("runs", options.enough.runs, 1, 1'000'000);
  MOEKIT_CHECK(std::isfinite(options.enough.seconds) && options.enough.seconds >= 0,
               "bench: seconds must be a finite number from 0; got ", options.enough.seconds);
}

}  // namespace moekit::bench
