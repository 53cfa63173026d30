#include "moekit/tasks/classification/task.h"

#include "moekit/models/model_io.h"
#include "moekit/run/run.h"
#include "moekit/tasks/classification/inspection.h"
#include "moekit/tasks/classification/merging.h"
#include "moekit/tasks/classification/operations.h"
#include "moekit/tasks/classification/problem.h"
#include "moekit/tasks/classification/run_files.h"
#include "moekit/tasks/classification/section.h"
#include "moekit/tensor/arithmetic.h"
#include "moekit/tensor/memory.h"

namespace moekit::classification {
namespace fs = std::filesystem;
namespace {

std::map<std::string, std::string> models_of(const InitConfig& init) {
  return run::model_checksums({{"init.router_from", init.router_from},
                               {"init.trunk_from", init.trunk_from},
                               {"init.experts_from", init.experts_from},
                               {"init.dense_from", init.dense_from}});
}

run::RunRecipe recipe_of(const Config& config, std::string data) {
  return run::recipe_of(config, std::move(data), models_of(config.init));
}

/// The data set a recipe needs in a folder; empty for one that is generated.
std::string needed_set(const Config& config) {
  const auto& row = config.data.set.row();
  return row.generated() ? "" : std::string(row.name);
}

/// Tells data sets apart that are held in memory: the name, and options, which may change its data.
std::string set_key(const Config& config) {
  return needed_set(config) + to_json(config)["data"].value("options", Json()).dump();
}

class ClassificationTask : public run::Task {
 public:
  std::string_view name() const override { return "classification"; }
  std::vector<ConfigKey> keys() const override { return config_keys(Config{}); }
  void check(const ConfigTree& recipe) const override { validate(run::bound<Config>(recipe)); }
  std::string data_set(const ConfigTree& recipe) const override {
    return std::string(run::bound<Config>(recipe).data.set.row().name);
  }
  run::RunRecipe resolve(const ConfigTree& recipe, const std::string& data_folder) const override {
    const Config config = run::bound<Config>(recipe);
    const std::string needed = needed_set(config);
    if (needed.empty()) return recipe_of(config, "");
    // The whole study holds its runs against a few data sets.
    std::string& sum = checksums_[{set_key(config), data_folder}];
    if (sum.empty()) sum = data::checksum(*data::load_images(config.data.set, {data_folder, 1}));
    return recipe_of(config, sum);
  }
  run::RunStatus run(const ConfigTree& recipe, const run::RunOptions& options) const override {
    return run_recipe(run::bound<Config>(recipe), options);
  }
  Json evaluate(const fs::path& run, const std::string& data_folder) const override {
    const Config config = read_config(run);
    const RunData data = load_run_data(config, data_folder);
    const auto model = models::load_model(run / "model");
    return evaluation_summary(classification::evaluate(*model, data.test, data.normalization),
                              *model, data.input.num_classes);
  }
  Json inspect(const fs::path& run, const std::string& data_folder,
               const std::string& against) const override {
    read_run_summary(run);  // refuses what is no finished run before any data is read
    return inspect_run(run, load_run_data(read_config(run), data_folder), against);
  }
  Json operations(const fs::path& run, const std::string& data_folder,
                  int64_t batch) const override {
    read_run_summary(run);
    const Config config = read_config(run);
    return count_operations(run, load_run_data(config, data_folder), batch);
  }
  Json merge(const fs::path& run, const std::string& data_folder,
             const compress::MergeOptions& options, const fs::path& out) const override {
    return merge_run(run, data_folder, options, out);
  }
  report::ModelSection section(const std::string& title, const fs::path& run,
                               const std::string& data_folder) const override {
    const Config config = read_config(run);
    const std::string needed = needed_set(config);
    if (needed.empty()) {  // generated: another for every run
      return make_section(title, run, load_run_data(config, data_folder));
    }
    if (!loaded_ || loaded_as_ != set_key(config) || loaded_from_ != data_folder) {
      loaded_ = data::load_images(config.data.set, {data_folder, 1});
      loaded_as_ = set_key(config);
      loaded_from_ = data_folder;
    }
    return make_section(title, run, make_run_data(config, *loaded_));
  }
  std::vector<run::ReportFigure> report_figures() const override {
    return {{"I(E;Y)", "/test/layers/*/mutual_information",
             "I(E;Y): information between expert and predicted class, more is more specialised.",
             "bit", "the classes are divided most clearly by", "least clearly by"},
            {"test error", "/test/error", "", "", "", "the test error is lowest with"},
            {"train error", "/train/error"},
            {"H_s", "/test/layers/*/sample_entropy",
             "H_s: entropy of the router's choice for one sample, less is sharper.", "bit"},
            {"H_u", "/test/layers/*/usage_entropy",
             "H_u: entropy of expert usage, more is more even.", "bit"}};
  }
  std::vector<study::Figure> study_figures() const override {
    return {{"train_error", "train error", "/train/error"},
            {"train_loss", "train loss", "/train/loss"},
            {"test_error", "test error", "/test/error"},
            {"information", "I(E;Y), Y of the mixture", "/test/layers/mixture/mutual_information"},
            {"information_selected", "I(E;Y), Y of the selected expert",
             "/test/layers/mixture/mutual_information_selected"},
            {"sample_entropy", "H_s", "/test/layers/mixture/sample_entropy"},
            {"usage_entropy", "H_u", "/test/layers/mixture/usage_entropy"},
            {"sample_entropy_top_k", "H_s, its k experts alone",
             "/test/layers/mixture/sample_entropy_top_k"},
            {"usage_entropy_top_k", "H_u, its k experts alone",
             "/test/layers/mixture/usage_entropy_top_k"}};
  }

 private:
  mutable std::shared_ptr<data::ImageDataset> loaded_;  // pages show many runs of one data set
  mutable std::string loaded_as_, loaded_from_;
  mutable std::map<std::pair<std::string, std::string>, std::string>
      checksums_;  // by set with options, folder
};

}  // namespace

run::RunStatus run_recipe(const Config& config, const run::RunOptions& options) {
  validate(config);
  tensor::start_arithmetic(config.threads);
  const Json recipe = to_json(config);
  auto data = tensor::within_memory("the data set", recipe["data"], "data",
                                    [&] { return load_run_data(config, options.data_folder); });
  const auto held = tensor::within_memory("the model", recipe["model"], "model", [&] {
    return std::make_unique<ClassificationProblem>(config, std::move(data));
  });
  ClassificationProblem& problem = *held;
  const auto layers = nn::routed_layers(problem.module());
  const nn::LossSite routed{layers};
  config.loss.check(routed, "loss");
  CallbackSite site;
  site.has_validation = config.data.validation > 0;
  site.layers = layers;
  site.seed = static_cast<uint64_t>(config.seed);
  site.stage_steps = problem.total_steps();
  site.problem = &problem;
  config.train.callbacks.check(site, "train");
  const train::TrainConfig& loop = config.train.loop;
  auto plan = run::plan_of(config, recipe_of(config, problem.data().checksum), problem);
  run::train_by(loop, problem.module(), plan);
  plan.losses = config.loss.make(routed);
  nn::check_aux_only(routed, plan.losses);
  plan.callbacks = config.train.callbacks.make(site);
  return run::run(std::move(plan), options);
}

const run::Task& task() {
  static const ClassificationTask kTask;
  return kTask;
}

}  // namespace moekit::classification
