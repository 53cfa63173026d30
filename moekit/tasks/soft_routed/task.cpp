#include "moekit/tasks/soft_routed/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/files.h"
#include "moekit/core/schema.h"
#include "moekit/run/run.h"
#include "moekit/tasks/soft_routed/problem.h"
#include "moekit/tensor/arithmetic.h"
#include "moekit/tensor/memory.h"

namespace moekit::soft_routed {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kSaveEvery = 1000;  // steps; one takes about a millisecond

/// summary.json, checked before anything is made of it.
Json read_run_summary(const fs::path& run) {
  static const Schema kSchema = Schema::object({{"loss_trained", Schema::figure()},
                                                {"loss_pruned", Schema::figure()},
                                                {"loss_final", Schema::figure()},
                                                {"pairs_kept", Schema::count()}});
  return run::read_summary(run, kSchema);
}

/// metrics.jsonl, checked before anything is made of it.
std::vector<Json> read_run_metrics(const fs::path& run) {
  static const Schema kSchema = Schema::object({{"step", Schema::count()},
                                                {"time", Schema::number(0)},
                                                {"loss", Schema::figure()},
                                                {"rho_v", Schema::list(Schema::figure())},
                                                {"rho_w", Schema::list(Schema::figure())}});
  return run::read_metrics(run, kSchema);
}

/// Overlaps with the teacher, a line for each vector, and the loss.
std::vector<report::Chart> charts_of(const std::vector<Json>& lines) {
  report::Chart overlaps{"Overlap with the teacher: experts (v) and their routers (w)",
                         "time",
                         {},
                         {},
                         false,
                         "overlap"};
  report::Chart loss{"Loss over time", "time", {}, {{"loss", {}}}, false, "log10 of the loss"};
  for (const auto& line : lines) {
    overlaps.x.push_back(line["time"].get<double>());
    loss.x.push_back(line["time"].get<double>());
    loss.series[0].values.push_back(std::log10(std::max(figure_value(line["loss"]), 1e-16)));
    for (const char* name : {"rho_v", "rho_w"}) {
      for (size_t i = 0; i < line[name].size(); ++i) {
        const std::string label = fmt::format("{} {}", name[4], i + 1);
        auto found = std::find_if(overlaps.series.begin(), overlaps.series.end(),
                                  [&](const auto& s) { return s.name == label; });
        if (found == overlaps.series.end()) {
          overlaps.series.push_back({label, {}});
          found = std::prev(overlaps.series.end());
        }
        found->values.push_back(figure_value(line[name][i]));
      }
    }
  }
  return {std::move(overlaps), std::move(loss)};
}

/// Refuses what cannot fit, before any memory is taken: a MemoryLimit looks at one tensor at a
/// time. Counted are teacher and student (w, v, and in float64 while they are made orthogonal) with
/// the test samples, and a step's samples with their two products for each pair.
void check_sizes(const Config& c, const Json& recipe) {
  const int64_t pairs = c.teacher_pairs + c.student_pairs;
  const auto check = [&](const char* what, int64_t rows, int64_t columns) {
    if (memory_shortage({rows, columns}, sizeof(float)).empty()) return;
    throw tensor::memory_error(what, recipe, "");
  };
  check("the model with its test samples", 6 * pairs + c.test_samples, c.dim);
  check("a training step", c.batch_size, c.dim + 2 * pairs);
}

class SoftRoutedTask : public run::Task {
 public:
  std::string_view name() const override { return "soft_routed"; }
  std::vector<ConfigKey> keys() const override { return config_keys(Config{}); }
  void check(const ConfigTree& recipe) const override { validate(run::bound<Config>(recipe)); }
  std::string data_set(const ConfigTree&) const override { return {}; }
  run::RunRecipe resolve(const ConfigTree& recipe, const std::string&) const override {
    return run::recipe_of(run::bound<Config>(recipe));
  }
  run::RunStatus run(const ConfigTree& recipe, const run::RunOptions& options) const override {
    const Config config = run::bound<Config>(recipe);
    tensor::start_arithmetic(config.threads);
    const torch::NoGradGuard no_grad;
    const Json recipe_json = to_json(config);
    check_sizes(config, recipe_json);
    const auto held =
        tensor::within_memory("the model with its test samples", recipe_json, "",
                              [&] { return std::make_unique<SoftRoutedProblem>(config); });
    SoftRoutedProblem& problem = *held;
    auto plan = run::plan_of(config, run::recipe_of(config), problem);
    plan.checkpoint_steps = kSaveEvery;
    plan.save_after_epochs = false;  // they are a few milliseconds long
    return run::run(std::move(plan), options);
  }
  Json inspect(const fs::path& run, const std::string&, const std::string& against) const override {
    MOEKIT_CHECK(against.empty(), "inspect: --against compares routers of classifiers");
    return read_run_summary(run);
  }
  Json operations(const fs::path& run, const std::string&, int64_t batch) const override {
    read_run_summary(run);
    const torch::NoGradGuard no_grad;
    const Config config = run::bound<Config>(read_toml(run / "config.toml"));
    SoftRoutedProblem problem(config);
    // Its size says what it computes: pairs may have been pruned.
    const fs::path model = run / "model" / "config.json";
    problem.restore(read_json(model), model.string());
    const auto samples = torch::zeros({batch, config.dim});
    const tensor::OperationCounter counter;
    tensor::counted("student", [&] { return problem.student().forward(samples); });
    return run::operations_json(run, batch, counter);
  }
  report::ModelSection section(const std::string& title, const fs::path& run,
                               const std::string&) const override {
    const Json summary = read_run_summary(run);
    report::ModelSection section;
    section.title = title;
    section.subtitle =
        fmt::format("loss {:.2g} trained, {:.2g} pruned to {} pairs, {:.2g} fine-tuned",
                    figure_value(summary["loss_trained"]), figure_value(summary["loss_pruned"]),
                    summary["pairs_kept"].get<int64_t>(), figure_value(summary["loss_final"]));
    section.place = fmt::format("seed {}, {}", summary["seed"].get<int64_t>(), run.string());
    section.shows =
        "each chart shows how far experts (v) and routers (w) of a student turn to their teacher's";
    section.recipe = read_file(run / "config.toml", 1 << 24);
    auto charts = charts_of(read_run_metrics(run));
    section.overview_charts.push_back(std::move(charts.front()));
    section.charts.push_back(std::move(charts.back()));
    return section;
  }
  std::vector<run::ReportFigure> report_figures() const override {
    return {{"loss trained", "/loss_trained"},
            {"pairs kept", "/pairs_kept"},
            {"loss pruned", "/loss_pruned"},
            {"final loss", "/loss_final", "", "", "", "the final loss is lowest with"}};
  }
};

}  // namespace

const run::Task& task() {
  static const SoftRoutedTask kTask;
  return kTask;
}

}  // namespace moekit::soft_routed
