#include "moekit/tasks/sparse_layer/task.h"

#include <fmt/format.h>

#include "moekit/core/files.h"
#include "moekit/core/schema.h"
#include "moekit/run/measurement.h"
#include "moekit/tasks/sparse_layer/checks.h"
#include "moekit/tensor/arithmetic.h"

namespace moekit::sparse_layer {
namespace fs = std::filesystem;
namespace {

Json measure(const Config& config) {
  return {{"seed", config.seed},
          {"parameters", 0},  // nothing is kept
          {"dropless", check_dropless(config)},
          {"soft", check_soft(config)},
          {"balanced", check_balanced(config)},
          {"hash", check_hash(config)}};
}

/// summary.json, checked before anything is made of it.
Json read_run_summary(const fs::path& run) {
  const auto figures = [](std::initializer_list<const char*> names) {
    std::vector<Schema::Member> members;
    members.reserve(names.size());
    for (const char* name : names) members.push_back({name, Schema::figure()});
    return Schema::object(members);
  };
  static const Schema kSchema =
      Schema::object({{"dropless", figures({"fused", "composed", "capacity"})},
                      {"soft", figures({"columns", "rows", "gradient"})},
                      {"balanced", figures({"uneven", "gap"})},
                      {"hash", figures({"moved", "entropy"})}});
  return run::read_summary(run, kSchema);
}

class SparseLayerTask : public run::Task {
 public:
  std::string_view name() const override { return "sparse_layer"; }
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
    section.subtitle = fmt::format("a sparse layer {:.2g} from a loop over its experts",
                                   figure_value(summary["dropless"]["fused"]));
    section.place = fmt::format("seed {}, {}", summary["seed"].get<int64_t>(), run.string());
    section.recipe = read_file(run / "config.toml", 1 << 24);
    return section;
  }
  std::vector<run::ReportFigure> report_figures() const override {
    return {{"dropless, from a loop", "/dropless/fused"},
            {"capacity E/K, from a loop", "/dropless/capacity"},
            {"soft: gradient, from differences", "/soft/gradient"},
            {"balanced: below the optimum, of what is allowed", "/balanced/gap"}};
  }
};

}  // namespace

const run::Task& task() {
  static const SparseLayerTask kTask;
  return kTask;
}

}  // namespace moekit::sparse_layer
