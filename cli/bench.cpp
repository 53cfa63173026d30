#include <fmt/format.h>

#include "cli/command.h"
#include "cli/guard.h"
#include "moekit/bench/merged_bench.h"
#include "moekit/bench/merging_bench.h"
#include "moekit/bench/moe_bench.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/progress.h"
#include "moekit/tensor/memory.h"

namespace moekit::cli {
namespace {

void print_limits(int threads, const bench::MachineLimits& limits) {
  fmt::print(
      "{} thread{}: peak f32 {:.0f}, bf16 {:.0f} GFLOP/s, int8 {:.0f} Gop/s; reads {:.1f}, writes "
      "{:.1f} GB/s\n",
      threads, threads == 1 ? "" : "s", limits.path.f32_per_second / 1e9,
      limits.path.bf16_per_second / 1e9, limits.path.int8_per_second / 1e9,
      limits.read_bytes_per_second / 1e9, limits.write_bytes_per_second / 1e9);
}

void print_row(const bench::MoeBenchRow& row) {
  std::string ratios;
  for (const auto& [name, ratio] : row.ratios) {
    ratios += fmt::format("{}{:.2f} x {}", ratios.empty() ? "" : "; ", ratio, name);
  }
  fmt::print(
      "{:9} {:>6} {:>3} {:>7.1f} {:>9.3f} {:>9.3f} {:>8.1f} {:>6.1f} {:>6.0f} {:>6.0f} {:>6.0f} "
      "{:>6.0f} {:>6.1f}  {}\n",
      row.format, row.tokens, row.threads, row.distinct_experts, row.median_ms, row.p10_ms,
      row.operations_per_second / 1e9, row.bytes_per_second / 1e9, 100 * row.peak_fraction,
      100 * row.best_peak_fraction,
      100 * (row.plain_read_ms > 0 ? row.plain_read_ms / row.median_ms : row.read_fraction),
      100 * row.bound_fraction, row.reuse_bytes / 1e9, ratios);
  std::fflush(stdout);
}

void print_row(const bench::MergedBenchRow& row) {
  fmt::print("{:>9} {:>6} {:>5} {:>10.3f} {:>10.3f} {:>7.2f}  {}\n", row.sequences, row.length,
             row.top_k, row.routed_ms, row.merged_ms, row.ratio(), enum_name(row.chosen));
  std::fflush(stdout);
}

void print_crossover(const bench::Crossover& at) {
  fmt::print("{} sequence{}, {} chosen: merging is ", at.sequences, at.sequences == 1 ? "" : "s",
             at.top_k);
  if (at.first_faster == 0) {
    fmt::print("slower up to {} tokens\n", at.last_slower);
  } else if (at.last_slower == 0) {
    fmt::print("faster from {} tokens on\n", at.first_faster);
  } else {
    fmt::print("slower at {} tokens, faster from {} on\n", at.last_slower, at.first_faster);
  }
}

}  // namespace

int run(const MergedBenchFlags& flags) {
  const auto& options = flags.options;
  const InterruptGuard guard;
  if (!flags.json) {
    fmt::print("{} experts, {} to {} to {}; {}, {} thread{}\n", options.num_experts,
               options.hidden_size, options.intermediate_size, options.hidden_size,
               enum_name(options.pass), options.threads, options.threads == 1 ? "" : "s");
    fmt::print("{:>9} {:>6} {:>5} {:>10} {:>10} {:>7}  cost model\n", "sequences", "tokens",
               "top-k", "routed ms", "merged ms", "ratio");
  }
  Progress progress("bench",
                    static_cast<std::int64_t>(options.sequences.size() * options.lengths.size() *
                                              options.experts_chosen.size()),
                    "measurement");
  std::int64_t done = 0;
  const auto rows = bench::run_merged_bench(
      options,
      [&](const bench::MergedBenchRow& row) {
        progress.update(++done, fmt::format("{} tokens", row.length));
        if (!flags.json) print_row(row);
      },
      [] { return !interrupted(); });
  if (flags.json) {
    fmt::print("{}\n", bench::to_json(options, rows).dump(2));
  } else {
    for (const auto& crossover : bench::crossovers(rows)) print_crossover(crossover);
  }
  return interrupted() ? kInterruptedExit : 0;
}

int run(const MergingBenchFlags& flags) {
  const auto& options = flags.options;
  const auto result = tensor::within_memory("the experts",
                                            {{"--experts", options.num_experts},
                                             {"--hidden-size", options.hidden_size},
                                             {"--intermediate-size", options.intermediate_size},
                                             {"--units", options.units}},
                                            "", [&] { return bench::run_merging_bench(options); });
  if (flags.json) {
    fmt::print("{}\n", bench::to_json(options, result).dump(2));
    return 0;
  }
  fmt::print("{} gated experts, {} to {}, float32; {} thread{}\n", options.num_experts,
             options.hidden_size, options.intermediate_size, options.threads,
             options.threads == 1 ? "" : "s");
  fmt::print("  {:40} {:.1f} GB/s\n", "memory, read", result.read_per_second / 1e9);
  fmt::print("  {:40} {:.1f} ms, {:.1f} GB/s: {:.0f} % of the read bandwidth ({} runs)\n",
             "mean of all experts", result.mean_ms, result.bytes_per_second() / 1e9,
             100 * result.share_of_read(), result.runs);
  fmt::print("  {:40} {:.1f} ms, {:.2f} times as long\n", "libtorch, term by term",
             result.libtorch_ms, result.libtorch_ms / result.mean_ms);
  if (options.units > 0) {
    fmt::print("  {:40} {:.2f} s\n", fmt::format("matching two experts of {} units", options.units),
               result.match_seconds);
  }
  return 0;
}

int run(const BenchFlags& flags) {
  const auto& options = flags.options;
  const auto& shape = bench::find_layer_shape(options.shape);
  const InterruptGuard guard;
  if (!flags.json) {
    fmt::print("{}: {} experts, {} a token, {} to {}{}; {}, {} routing, {}\n", shape.name,
               shape.num_experts, shape.top_k, shape.hidden_size, shape.intermediate_size,
               shape.shared_size > 0 ? fmt::format(", shared {}", shape.shared_size) : "",
               enum_name(options.pass), enum_name(options.routing),
               kernels::paths_text(bench::paths_of(options)));
  }
  const auto formats =
      options.formats.empty()
          ? (options.pass == bench::Pass::kTrain ? 2 : kernels::weight_formats().size())
          : options.formats.size();
  const auto total =
      static_cast<std::int64_t>(formats * options.tokens.size() * options.threads.size());
  Progress progress("bench", total, "measurement");
  bool header = false;
  std::int64_t done = 0;
  const auto report = bench::run_moe_bench(
      options,
      [&](int threads, const bench::MachineLimits& limits) {
        if (!flags.json) print_limits(threads, limits);
      },
      [&](const bench::MoeBenchRow& row) {
        progress.update(++done, row.format);
        if (flags.json) return;
        if (!header) {
          fmt::print(
              "{:9} {:>6} {:>3} {:>7} {:>9} {:>9} {:>8} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}  as "
              "fast "
              "as\n",
              "format", "tokens", "thr", "experts", "ms", "p10 ms", "Gop/s", "GB/s", "%peak",
              "%best", "%read", "%bound", "again");
          header = true;
        }
        print_row(row);
      },
      [] { return !interrupted(); });
  if (flags.json) fmt::print("{}\n", bench::to_json(report).dump(2));
  return interrupted() ? kInterruptedExit : 0;
}

}  // namespace moekit::cli
