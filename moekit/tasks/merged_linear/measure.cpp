#include "moekit/tasks/merged_linear/measure.h"

#include "moekit/bench/merged_bench.h"
#include "moekit/metrics/encoder_operations.h"
#include "moekit/tasks/merged_linear/equality.h"

namespace moekit::merged_linear {
namespace {

Json measure_latency(const Config& config) {
  const auto& c = config.layer;
  bench::MergedBenchOptions options;
  options.sequences = {c.sequences};
  options.lengths = {c.length};
  options.experts_chosen = {c.top_k};
  options.num_experts = c.num_experts;
  options.hidden_size = c.hidden_size;
  options.intermediate_size = c.intermediate_size;
  options.threads = config.threads;
  options.enough = {static_cast<int>(config.latency.runs), config.latency.seconds};
  options.seed = static_cast<uint64_t>(config.seed);
  const auto row = bench::run_merged_bench(options, {}, [] { return true; }).at(0);
  return {{"routed_ms", row.routed_ms}, {"merged_ms", row.merged_ms}, {"ratio", row.ratio()}};
}

/// In GFLOP, a sequence.
Json encoder_json(const EncoderConfig& c) {
  const metrics::EncoderShape shape{c.num_layers, c.hidden_size, c.intermediate_size, c.length,
                                    c.vocabulary};
  return {{"routed", metrics::routed_encoder_operations(shape, c.selected) / 1e9},
          {"merged", metrics::merged_encoder_operations(shape, c.selected, 1) / 1e9},
          {"merged_twice", metrics::merged_encoder_operations(shape, c.selected, 2) / 1e9}};
}

}  // namespace

Json measure(const Config& config) {
  const auto& c = config.layer;
  Json summary = {
      {"seed", config.seed},
      {"parameters", c.num_experts * (c.hidden_size + (c.bias ? 1 : 0)) * c.intermediate_size}};
  if (config.equality) summary.update(compare_paths(config));
  if (config.encoder.selected > 0) summary["encoder"] = encoder_json(config.encoder);
  if (config.latency.runs > 0) summary["latency"] = measure_latency(config);
  return summary;
}

}  // namespace moekit::merged_linear
