#include <fmt/format.h>

#include <memory>
#include <thread>

#include "cli/command.h"
#include "moekit/bench/moe_bench.h"
#include "moekit/core/error.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/progress.h"

namespace moekit::cli {
namespace {

using bench::MoeBenchOptions;

struct BenchFlags {
  MoeBenchOptions options;
  std::vector<std::string> formats;
  std::string routing = "uniform";
  std::string pass = "forward";
  std::string isa;
  bool no_baselines = false;
  bool json = false;
};

void print_limits(int threads, const bench::MachineLimits& limits) {
  fmt::print(
      "{} thread{}: peak f32 {:.0f}, bf16 {:.0f} GFLOP/s, int8 {:.0f} Gop/s; reads {:.1f} GB/s\n",
      threads, threads == 1 ? "" : "s", limits.f32_per_second / 1e9, limits.bf16_per_second / 1e9,
      limits.int8_per_second / 1e9, limits.read_bytes_per_second / 1e9);
}

void print_row(const bench::MoeBenchRow& row) {
  std::string ratios;
  for (const auto& [name, ratio] : row.ratios) {
    ratios += fmt::format("{}{:.2f} x {}", ratios.empty() ? "" : "; ", ratio, name);
  }
  fmt::print(
      "{:9} {:>6} {:>3} {:>7.1f} {:>9.3f} {:>9.3f} {:>8.1f} {:>6.1f} {:>6.0f} {:>6.0f} {:>6.0f}  "
      "{}\n",
      row.format, row.tokens, row.threads, row.distinct_experts, row.median_ms, row.p10_ms,
      row.operations_per_second / 1e9, row.bytes_per_second / 1e9, 100 * row.peak_fraction,
      100 * row.read_fraction, 100 * row.bound_fraction, ratios);
  std::fflush(stdout);
}

void run(BenchFlags& flags, int& exit_code) {
  auto& options = flags.options;
  for (const auto& name : flags.formats) {
    options.formats.push_back(kernels::parse_weight_format(name));
  }
  options.routing = parse_enum<bench::RoutingKind>(flags.routing);
  options.pass = parse_enum<bench::Pass>(flags.pass);
  options.isa = flags.isa.empty() ? kernels::default_isa() : kernels::parse_isa(flags.isa);
  options.baselines = !flags.no_baselines;
  const auto& shape = bench::find_layer_shape(options.shape);
  const InterruptGuard guard;
  if (!flags.json) {
    fmt::print("{}: {} experts, {} a token, {} to {}{}; {}, {} routing, {}\n", shape.name,
               shape.num_experts, shape.top_k, shape.hidden_size, shape.intermediate_size,
               shape.shared_size > 0 ? fmt::format(", shared {}", shape.shared_size) : "",
               enum_name(options.pass), enum_name(options.routing), kernels::isa_name(options.isa));
  }
  const auto formats =
      options.formats.empty()
          ? (options.pass == bench::Pass::kTrain ? 2 : kernels::weight_formats().size())
          : options.formats.size();
  const auto total =
      static_cast<std::int64_t>(formats * options.tokens.size() * options.threads.size());
  Progress progress("bench", total);
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
              "{:9} {:>6} {:>3} {:>7} {:>9} {:>9} {:>8} {:>6} {:>6} {:>6} {:>6}  as fast as\n",
              "format", "tokens", "thr", "experts", "ms", "p10 ms", "Gop/s", "GB/s", "%peak",
              "%read", "%bound");
          header = true;
        }
        print_row(row);
      },
      [] { return !interrupted(); });
  if (flags.json) fmt::print("{}\n", bench::to_json(report).dump(2));
  if (interrupted()) exit_code = kInterruptedExit;
}

void list_isas() {
  const auto chosen = kernels::default_isa();
  for (const auto isa : kernels::supported_isas()) {
    fmt::print("{}{}\n", kernels::isa_name(isa), isa == chosen ? "  (used)" : "");
  }
}

}  // namespace

void setup_bench(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("bench", "Measure the kernels on this machine");
  command->require_subcommand(1);
  command->add_subcommand("isa", "Instruction sets this machine has; MOEKIT_ISA forces one")
      ->callback(list_isas);
  auto flags = std::make_shared<BenchFlags>();
  auto* moe = command->add_subcommand(
      "moe", "A sparse layer against the machine's limits and libtorch, measured in the same run");
  auto& options = flags->options;
  options.threads = {1};
  moe->add_option("--shape", options.shape, "mixtral4, olmoe, qwen3-30b, deepseek-v2-lite or tiny")
      ->capture_default_str();
  moe->add_option("--tokens", options.tokens, "Numbers of tokens, comma separated")
      ->delimiter(',')
      ->capture_default_str();
  moe->add_option("--format", flags->formats,
                  "f32, bf16, int8, int4-g128, int4-g32, ternary, comma separated; all by default")
      ->delimiter(',');
  moe->add_option("--threads", options.threads, "Numbers of threads, comma separated")
      ->delimiter(',')
      ->capture_default_str();
  moe->add_option("--routing", flags->routing, "uniform, zipf, one or trace")
      ->capture_default_str();
  moe->add_option("--trace", options.trace, "Routing trace of a run, for --routing trace");
  moe->add_option("--pass", flags->pass, "forward, or train: forward and all gradients")
      ->capture_default_str();
  moe->add_option("--isa", flags->isa, "Instruction set, as moekit bench isa lists them");
  moe->add_option("--runs", options.enough.runs, "At least so many runs")->capture_default_str();
  moe->add_option("--seconds", options.enough.seconds, "At least so long")->capture_default_str();
  moe->add_option("--seed", options.seed, "Of routing and values")->capture_default_str();
  moe->add_flag("--no-baselines", flags->no_baselines, "Leave libtorch out");
  moe->add_flag("--json", flags->json, "Print as JSON");
  moe->callback([flags, &exit_code] { run(*flags, exit_code); });
}

}  // namespace moekit::cli
