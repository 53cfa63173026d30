#include "moekit/tasks/merged_linear/task.h"

#include <fmt/format.h>

#include "moekit/core/files.h"
#include "moekit/core/schema.h"
#include "moekit/run/measurement.h"
#include "moekit/tasks/merged_linear/measure.h"
#include "moekit/tensor/arithmetic.h"
#include "moekit/tensor/memory.h"

namespace moekit::merged_linear {
namespace fs = std::filesystem;
namespace {

/// summary.json, checked before anything is made of it.
Json read_run_summary(const fs::path& run) {
  const auto errors = Schema::object({{"values", Schema::figure()},
                                      {"experts", Schema::figure()},
                                      {"router", Schema::figure()},
                                      {"tokens", Schema::figure()}});
  static const Schema kSchema =
      Schema::object({{"float32", errors, /*required=*/false},
                      {"float64", errors, false},
                      {"operations",
                       Schema::object({{"routed", Schema::figure()},
                                       {"merged", Schema::figure()},
                                       {"saving", Schema::figure()}}),
                       false},
                      {"encoder",
                       Schema::object({{"routed", Schema::figure()},
                                       {"merged", Schema::figure()},
                                       {"merged_twice", Schema::figure()}}),
                       false},
                      {"latency",
                       Schema::object({{"routed_ms", Schema::figure()},
                                       {"merged_ms", Schema::figure()},
                                       {"ratio", Schema::figure()}}),
                       false}});
  return run::read_summary(run, kSchema);
}

/// What was measured, in a line.
std::string subtitle_of(const Json& summary) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : "; ") + part; };
  if (summary.contains("float32")) {
    add(fmt::format("merged against routed: values {:.2g} apart in float32, {:.2g} in float64",
                    figure_value(summary["float32"]["values"]),
                    figure_value(summary["float64"]["values"])));
  }
  if (summary.contains("latency")) {
    add(fmt::format("routing takes {:.2f} times as long",
                    figure_value(summary["latency"]["ratio"])));
  }
  if (summary.contains("encoder")) {
    add(fmt::format("a whole encoder: {:.1f} GFLOP routed, {:.2f} merged",
                    figure_value(summary["encoder"]["routed"]),
                    figure_value(summary["encoder"]["merged"])));
  }
  return text;
}

/// Refuses what cannot fit, before any memory is taken: experts with their gradient, in float64,
/// and what is merged for each gate, with its own.
void check_sizes(const Config& config, const Json& recipe) {
  const auto& c = config.layer;
  const bool each_token = c.unit == nn::GateUnit::kToken || c.unit == nn::GateUnit::kPrefix;
  const int64_t gates = each_token ? c.sequences * c.length : c.sequences;
  if (memory_shortage({2 * (c.num_experts + gates), c.hidden_size, c.intermediate_size},
                      sizeof(double))
          .empty()) {
    return;
  }
  throw tensor::memory_error("the layer with its merged weights", recipe["layer"], "layer");
}

class MergedLinearTask : public run::Task {
 public:
  std::string_view name() const override { return "merged_linear"; }
  std::vector<ConfigKey> keys() const override { return config_keys(Config{}); }
  void check(const ConfigTree& recipe) const override { validate(run::bound<Config>(recipe)); }
  std::string data_set(const ConfigTree&) const override { return {}; }
  run::RunRecipe resolve(const ConfigTree& recipe, const std::string&) const override {
    return run::recipe_of(run::bound<Config>(recipe));
  }
  run::RunStatus run(const ConfigTree& recipe, const run::RunOptions& options) const override {
    const Config config = run::bound<Config>(recipe);
    validate(config);
    tensor::start_arithmetic(config.threads);
    if (config.equality) check_sizes(config, to_json(config));
    return run::measure(
        config, run::recipe_of(config), [config] { return measure(config); }, options);
  }
  Json inspect(const fs::path& run, const std::string&, const std::string& against) const override {
    MOEKIT_CHECK(against.empty(), "inspect: --against compares routers of classifiers");
    return read_run_summary(run);
  }
  report::ModelSection section(const std::string& title, const fs::path& run,
                               const std::string&) const override {
    const Json summary = read_run_summary(run);
    report::ModelSection section;
    section.title = title;
    section.subtitle = subtitle_of(summary);
    section.place = fmt::format("seed {}, {}", summary["seed"].get<int64_t>(), run.string());
    section.recipe = read_file(run / "config.toml", 1 << 24);
    return section;
  }
  std::vector<run::ReportFigure> report_figures() const override {
    return {{"values apart, float32", "/float32/values"},
            {"gradients of experts apart, float32", "/float32/experts"},
            {"operations, routed / merged", "/operations/saving"},
            {"time, routed / merged", "/latency/ratio"},
            {"encoder, GFLOP routed", "/encoder/routed"},
            {"encoder, GFLOP merged", "/encoder/merged"}};
  }
};

}  // namespace

const run::Task& task() {
  static const MergedLinearTask kTask;
  return kTask;
}

}  // namespace moekit::merged_linear
