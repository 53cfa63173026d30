#include "moekit/bench/moe_options.h"

#include <cmath>

#include "moekit/core/error.h"

namespace moekit::bench {

void check_options(const MoeBenchOptions& options) {
  MOEKIT_CHECK(!options.tokens.empty() && !options.threads.empty(),
               "bench: needs at least one number of tokens and of threads");
  find_layer_shape(options.shape);
  for (const auto n : options.tokens) {
    MOEKIT_CHECK(n >= 1 && n <= 65536, "bench: tokens must be 1..65536; got ", n);
  }
  for (const auto t : options.threads) {
    MOEKIT_CHECK(t >= 1 && t <= 256, "bench: threads must be 1..256; got ", t);
  }
  MOEKIT_CHECK(options.enough.runs >= 1, "bench: runs must be at least 1; got ",
               options.enough.runs);
  MOEKIT_CHECK(std::isfinite(options.enough.seconds) && options.enough.seconds >= 0,
               "bench: seconds must be a finite number from 0; got ", options.enough.seconds);
  MOEKIT_CHECK(std::isfinite(options.cache_bytes) && options.cache_bytes >= 0,
               "bench: cache_bytes must be a finite number from 0; got ", options.cache_bytes);
  MOEKIT_CHECK((options.routing == RoutingKind::kTrace) == !options.trace.empty(),
               "bench: routing trace and a trace file go together");
  if (options.pass == Pass::kTrain) {
    for (const auto f : options.formats) {
      MOEKIT_CHECK(f == kernels::WeightFormat::kF32 || f == kernels::WeightFormat::kBf16,
                   "bench: a training step takes formats f32 and bf16; got ",
                   kernels::format_info(f).name);
    }
  }
  MOEKIT_CHECK(!options.isa || kernels::isa_supported(*options.isa), "bench: this machine lacks ",
               kernels::isa_name(*options.isa));
}

}  // namespace moekit::bench
