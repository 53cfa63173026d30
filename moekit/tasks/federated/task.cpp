#include "moekit/tasks/federated/task.h"

#include <fmt/format.h>

#include <map>

#include "moekit/core/files.h"
#include "moekit/core/schema.h"
#include "moekit/run/report.h"
#include "moekit/run/run.h"
#include "moekit/tasks/federated/problem.h"
#include "moekit/tensor/arithmetic.h"
#include "moekit/tensor/memory.h"

namespace moekit::federated {
namespace fs = std::filesystem;
namespace {

/// summary.json, checked before anything is made of it.
Json read_run_summary(const fs::path& run) {
  static const Schema kSchema = Schema::object(
      {{"seed", Schema::count()},
       {"attackers", Schema::count()},
       {"accuracy_last5_percent", Schema::figure(0)},
       {"attackers_weight", Schema::figure(0)},
       {"refused", Schema::count()},
       {"server_only", Schema::object({{"accuracy_last5_percent", Schema::figure(0)}})}});
  return run::read_summary(run, kSchema);
}

/// metrics.jsonl, checked before anything is made of it.
std::vector<Json> read_run_metrics(const fs::path& run) {
  static const Schema kSchema = Schema::object({{"epoch", Schema::count()},
                                                {"accuracy_percent", Schema::figure(0)},
                                                {"server_only_percent", Schema::figure(0)},
                                                {"attackers_weight", Schema::figure(0)},
                                                {"rho_attacker", Schema::figure(0)},
                                                {"rho_honest", Schema::figure(0)}});
  return run::read_metrics(run, kSchema);
}

report::Chart chart(const char* title, const char* y_title, const std::vector<Json>& lines,
                    const std::vector<std::pair<std::string, std::string>>& places) {
  auto out = run::chart_of(title, y_title, lines, places);
  out.x_title = "round";
  return out;
}

class FederatedTask : public run::Task {
 public:
  std::string_view name() const override { return "federated"; }
  std::vector<ConfigKey> keys() const override { return config_keys(Config{}); }
  void check(const ConfigTree& recipe) const override { validate(run::bound<Config>(recipe)); }
  std::string data_set(const ConfigTree& recipe) const override {
    return std::string(run::bound<Config>(recipe).data.set.row().name);
  }
  run::RunRecipe resolve(const ConfigTree& recipe, const std::string& data_folder) const override {
    const Config config = run::bound<Config>(recipe);
    const auto& row = config.data.set.row();
    if (row.generated()) return run::recipe_of(config, "");
    // The whole study holds its runs against a few data sets.
    std::string& sum =
        checksums_[{std::string(row.name) + to_json(config)["data"].value("options", Json()).dump(),
                    data_folder}];
    if (sum.empty()) sum = data::checksum(*data::load_images(config.data.set, {data_folder, 1}));
    return run::recipe_of(config, sum);
  }
  run::RunStatus run(const ConfigTree& recipe, const run::RunOptions& options) const override {
    const Config config = run::bound<Config>(recipe);
    validate(config);
    // Threads are users' (train_learners); sums over all would differ with their number.
    tensor::start_arithmetic(1);
    const torch::NoGradGuard no_grad;
    const Json recipe_json = to_json(config);
    auto attack = config.attack->make(AttackSite{config.users});
    auto data = tensor::within_memory("the data set", recipe_json["data"], "data", [&] {
      return load_user_data(config, *attack, options.data_folder);
    });
    const std::string checksum = data.checksum;
    const auto held = tensor::within_memory("the networks", recipe_json, "", [&] {
      return std::make_unique<FederatedProblem>(config, std::move(attack), std::move(data));
    });
    auto plan = run::plan_of(config, run::recipe_of(config, checksum), *held);
    return run::run(std::move(plan), options);
  }
  Json inspect(const fs::path& run, const std::string&, const std::string& against) const override {
    MOEKIT_CHECK(against.empty(), "inspect: --against compares routers of classifiers");
    return read_run_summary(run);
  }
  report::ModelSection section(const std::string& title, const fs::path& run,
                               const std::string&) const override {
    const Json summary = read_run_summary(run);
    const auto lines = read_run_metrics(run);
    report::ModelSection section;
    section.title = title;
    section.subtitle = fmt::format(
        "{:.1f} % in the last rounds, the server alone {:.1f} %; weight of attackers "
        "{:.3f}, {} models refused",
        figure_value(summary["accuracy_last5_percent"]),
        figure_value(summary["server_only"]["accuracy_last5_percent"]),
        figure_value(summary["attackers_weight"]), summary["refused"].get<int64_t>());
    section.place = fmt::format("seed {}, {}", summary["seed"].get<int64_t>(), run.string());
    section.shows = "each chart shows the global network's accuracy beside the server's alone";
    section.recipe = read_file(run / "config.toml", 1 << 24);
    section.overview_charts.push_back(
        chart("Accuracy over rounds", "accuracy in percent", lines,
              {{"global", "/accuracy_percent"}, {"server alone", "/server_only_percent"}}));
    // Without attackers there is only one weight to be shown.
    std::vector<std::pair<std::string, std::string>> rho = {{"honest user", "/rho_honest"}};
    const bool attacked = summary["attackers"].get<int64_t>() > 0;
    if (attacked) rho.emplace_back("attacker", "/rho_attacker");
    section.charts.push_back(chart("Weight of one user, mean over the round's", "rho", lines, rho));
    if (!attacked) return section;
    section.charts.push_back(chart("Weight of all attackers together", "sum of rho", lines,
                                   {{"attackers", "/attackers_weight"}}));
    return section;
  }
  std::vector<run::ReportFigure> report_figures() const override {
    return {{"accuracy, last 5 rounds", "/accuracy_last5_percent", "", "%",
             "the accuracy is highest with", "lowest with"},
            {"attackers' weight", "/attackers_weight",
             "Attackers' weight: sum of their rho, mean over the rounds."},
            {"refused", "/refused", "Refused: models with NaN or infinity, over all rounds."},
            {"server alone", "/server_only/accuracy_last5_percent",
             "Server alone: trained on what users handed over, never joined with users.", "%"}};
  }

 private:
  mutable std::map<std::pair<std::string, std::string>, std::string>
      checksums_;  // by set with options, folder
};

}  // namespace

const run::Task& task() {
  static const FederatedTask kTask;
  return kTask;
}

}  // namespace moekit::federated
