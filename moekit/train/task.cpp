#include "moekit/train/task.h"

#include "moekit/train/inspection.h"
#include "moekit/train/run.h"
#include "moekit/train/run_report.h"

namespace moekit::train {
namespace {

RunConfig bind_run(const ConfigTree& recipe) {
  RunConfig config;
  bind_config(recipe, config);
  return config;
}

class ClassificationTask : public Task {
 public:
  std::string_view name() const override { return "classification"; }
  std::vector<ConfigKey> keys() const override { return config_keys(RunConfig{}); }
  void check(const ConfigTree& recipe) const override { validate(bind_run(recipe)); }
  std::string data_set(const ConfigTree& recipe) const override {
    const auto set = bind_run(recipe).data.set;
    return set.row().generated() ? "" : std::string(set.name());
  }
  RunStatus run(const ConfigTree& recipe, const RunOptions& options) const override {
    return run_recipe(bind_run(recipe), options);
  }
  Json inspect(const std::filesystem::path& run, const std::string& data_folder,
               const std::string& against) const override {
    read_summary(run);  // refuses what is no finished run before any data is read
    return inspect_run(run, load_run_data(read_run_config(run), data_folder), against);
  }
  report::ModelSection section(const std::string& title, const std::filesystem::path& run,
                               const std::string& data_folder) const override {
    const RunConfig config = read_run_config(run);
    const auto& set = config.data.set;
    if (set.row().generated()) {  // another for every run
      return classification_section(title, run, load_run_data(config, data_folder));
    }
    if (loaded_ == nullptr || loaded_->name != set.name() || loaded_from_ != data_folder) {
      loaded_ = data::load_images(set, {data_folder});
      loaded_from_ = data_folder;
    }
    return classification_section(title, run, make_run_data(config, *loaded_));
  }

 private:
  mutable std::shared_ptr<data::ImageDataset> loaded_;  // pages show many runs of one data set
  mutable std::string loaded_from_;
};

}  // namespace

std::string task_name(const ConfigTree& recipe) {
  const auto found = recipe.values.find("task");
  if (found == recipe.values.end()) return "classification";
  MOEKIT_CHECK(found->is_string(), origin_of(recipe, "task"), ": task: wanted a string; got ",
               found->dump());
  return found->get<std::string>();
}

std::vector<study::Figure> classification_figures() {
  return {
      {"train_error", "train error", "/train/error"},
      {"train_loss", "train loss", "/train/loss"},
      {"test_error", "test error", "/test/error"},
      {"information", "I(E;Y)", "/test/layers/mixture/mutual_information"},
      {"sample_entropy", "H_s", "/test/layers/mixture/sample_entropy"},
      {"usage_entropy", "H_u", "/test/layers/mixture/usage_entropy"},
  };
}

const Task& classification_task() {
  static const ClassificationTask kTask;
  return kTask;
}

}  // namespace moekit::train
