#include "moekit/tasks/continual/task.h"

#include <fmt/format.h>

#include "moekit/run/run.h"
#include "moekit/tasks/continual/adapters.h"
#include "moekit/tasks/continual/problem.h"
#include "moekit/tasks/continual/section.h"
#include "moekit/tensor/arithmetic.h"
#include "moekit/tensor/memory.h"

namespace moekit::continual {
namespace fs = std::filesystem;
namespace {

/// What can be said before data is read.
void check_config(const Config& config) {
  validate(config);
  StreamSite site;
  site.num_tasks = static_cast<int64_t>(config.stream.tasks.size());
  site.side = config.stream.side;
  site.task_names = config.stream.tasks;
  // A router is made to see what it can do.
  tensor::within_memory("the model", to_json(config)["model"], "model", [&] {
    config.model->check(site, "model");
    return true;
  });
  ProtectionSite protection;
  protection.num_classes.resize(config.stream.tasks.size());
  config.protect.check(protection, "protect");
  const auto* adapters = config.model->get_if<AdaptersConfig>();
  const bool has_routers =
      adapters != nullptr && !adapters->shared_router && config.stream.tasks.size() > 1;
  check_selector(config.selector, has_routers, "selector");
}

class ContinualTask : public run::Task {
 public:
  std::string_view name() const override { return "continual"; }
  std::vector<ConfigKey> keys() const override { return config_keys(Config{}); }
  void check(const ConfigTree& recipe) const override { check_config(run::bound<Config>(recipe)); }
  std::string data_set(const ConfigTree& recipe) const override {
    const auto& tasks = run::bound<Config>(recipe).stream.tasks;
    return tasks.empty() ? "" : data::parse_task(tasks.front()).set;
  }
  run::RunRecipe resolve(const ConfigTree& recipe, const std::string& data_folder) const override {
    const Config config = run::bound<Config>(recipe);
    std::string names;
    for (const auto& task : config.stream.tasks) names += data::parse_task(task).set + "\n";
    std::string& sum = checksums_[{names, data_folder}];
    if (sum.empty()) sum = data::stream_checksum(config.stream.tasks, data_folder);
    return run::recipe_of(config, sum);
  }
  run::RunStatus run(const ConfigTree& recipe, const run::RunOptions& options) const override {
    const Config config = run::bound<Config>(recipe);
    check_config(config);
    tensor::start_arithmetic(config.threads);
    const Json values = to_json(config);
    auto stream = tensor::within_memory("the tasks", values["stream"], "stream", [&] {
      return data::load_stream(stream_options(config), static_cast<uint64_t>(config.seed),
                               options.data_folder);
    });
    const std::string checksum = stream.checksum;
    const Json sizes = {{"model", values["model"]},
                        {"protect", values["protect"]},
                        {"selector", values["selector"]}};
    const auto held = tensor::within_memory("the model", sizes, "", [&] {
      return std::make_unique<ContinualProblem>(config, std::move(stream));
    });
    ContinualProblem& problem = *held;
    const auto layers = nn::routed_layers(problem.module());
    const nn::LossSite routed{layers};
    config.loss.check(routed, "loss");
    train::CallbackSite site;
    site.layers = layers;
    site.seed = static_cast<uint64_t>(config.seed);
    site.stage_steps = config.train.steps;
    config.train.callbacks.check(site, "train");
    const train::TrainConfig loop = config.train.loop();
    auto plan = run::plan_of(config, run::recipe_of(config, checksum), problem);
    run::train_by(loop, problem.model(), plan);
    plan.losses = config.loss.make(routed);
    nn::check_aux_only(routed, plan.losses);
    plan.callbacks = config.train.callbacks.make(site);
    plan.keep_every = 1;  // what a task was left with can be looked at again
    return run::run(std::move(plan), options);
  }
  Json inspect(const fs::path& run, const std::string&, const std::string& against) const override {
    MOEKIT_CHECK(against.empty(), "inspect: --against compares routers of classifiers");
    return read_run_summary(run);
  }
  report::ModelSection section(const std::string& title, const fs::path& run,
                               const std::string&) const override {
    return make_section(title, run);
  }
  std::vector<run::ReportFigure> report_figures() const override {
    return {{"Last", "/figures/last", "Last: mean accuracy on all tasks at the end.", "%",
             "the tasks are known best at the end with", "worst with"},
            {"Avg", "/figures/average", "Avg: mean accuracy on all tasks after each of them.", "%"},
            {"Transfer", "/figures/transfer",
             "Transfer: mean accuracy on tasks before they are learnt.", "%"},
            {"forgetting", "/figures/forgetting",
             "Forgetting: the best accuracy on a task less the last one.", "%"}};
  }
  std::vector<study::Figure> study_figures() const override {
    return {{"transfer", "Transfer %", "/figures/transfer"},
            {"average", "Avg %", "/figures/average"},
            {"last", "Last %", "/figures/last"},
            {"forgetting", "forgetting %", "/figures/forgetting"}};
  }

 private:
  mutable std::map<std::pair<std::string, std::string>, std::string> checksums_;
};

}  // namespace

const run::Task& task() {
  static const ContinualTask kTask;
  return kTask;
}

}  // namespace moekit::continual
