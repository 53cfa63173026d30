#include "moekit/tasks/soft_routed/task.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/files.h"
#include "moekit/run/run.h"
#include "moekit/tasks/soft_routed/problem.h"

namespace moekit::soft_routed {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kSaveEvery = 1000;  // steps; one takes about a millisecond

Config bind(const ConfigTree& recipe) {
  Config config;
  bind_config(recipe, config);
  return config;
}

/// Overlaps with the teacher, a line for each vector, and the loss.
std::vector<report::Chart> charts_of(const std::vector<Json>& lines) {
  report::Chart overlaps{
      "Overlap with the teacher: experts (v) and their routers (w)", "time", {}, {}, false};
  report::Chart loss{"log10 of the loss", "time", {}, {{"loss", {}}}, false};
  for (const auto& line : lines) {
    overlaps.x.push_back(line["time"].get<double>());
    loss.x.push_back(line["time"].get<double>());
    loss.series[0].values.push_back(std::log10(std::max(line["loss"].get<double>(), 1e-16)));
    for (const char* name : {"rho_v", "rho_w"}) {
      for (size_t i = 0; i < line[name].size(); ++i) {
        const std::string label = fmt::format("{} {}", name[4], i + 1);
        auto found = std::find_if(overlaps.series.begin(), overlaps.series.end(),
                                  [&](const auto& s) { return s.name == label; });
        if (found == overlaps.series.end()) {
          overlaps.series.push_back({label, {}});
          found = std::prev(overlaps.series.end());
        }
        found->values.push_back(line[name][i].get<double>());
      }
    }
  }
  return {std::move(overlaps), std::move(loss)};
}

class SoftRoutedTask : public run::Task {
 public:
  std::string_view name() const override { return "soft_routed"; }
  std::vector<ConfigKey> keys() const override { return config_keys(Config{}); }
  void check(const ConfigTree& recipe) const override { validate(bind(recipe)); }
  std::string data_set(const ConfigTree&) const override { return {}; }
  run::RunStatus run(const ConfigTree& recipe, const run::RunOptions& options) const override {
    const Config config = bind(recipe);
    at::set_num_threads(static_cast<int>(config.threads));
    const torch::NoGradGuard no_grad;
    SoftRoutedProblem problem(config);
    run::RunPlan plan;
    plan.recipe = to_json(config);
    plan.seed = config.seed;
    plan.threads = config.threads;
    plan.problem = &problem;
    plan.trainer.seed = static_cast<uint64_t>(config.seed);
    plan.checkpoint_steps = kSaveEvery;
    plan.save_after_epochs = false;  // they are a few milliseconds long
    return run::run(std::move(plan), options);
  }
  Json inspect(const fs::path& run, const std::string&, const std::string& against) const override {
    MOEKIT_CHECK(against.empty(), "inspect: --against compares routers of classifiers");
    return run::read_summary(run);
  }
  report::ModelSection section(const std::string& title, const fs::path& run,
                               const std::string&) const override {
    const Json summary = run::read_summary(run);
    report::ModelSection section;
    section.title = title;
    section.subtitle = fmt::format(
        "seed {}; loss {:.2g} trained, {:.2g} pruned to {} pairs, {:.2g} fine-tuned; run folder {}",
        summary["seed"].get<int64_t>(), summary["loss_trained"].get<double>(),
        summary["loss_pruned"].get<double>(), summary["pairs_kept"].get<int64_t>(),
        summary["loss_final"].get<double>(), run.string());
    section.recipe = read_file(run / "config.toml", 1 << 24);
    section.charts = charts_of(run::read_metrics(run));
    return section;
  }
};

}  // namespace

const run::Task& task() {
  static const SoftRoutedTask kTask;
  return kTask;
}

}  // namespace moekit::soft_routed
