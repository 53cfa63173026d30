#include "moekit/run/task.h"

#include "moekit/core/error.h"
#include "moekit/data/datasets.h"
#include "moekit/data/folders.h"

namespace moekit::run {

std::string Task::why_no_data(const ConfigTree& recipe, const std::string& data_folder) const {
  const std::string name = data_set(recipe);
  if (name.empty() || data::dataset_row(name).generated() ||
      data::find_dataset(data::dataset_row(name), data_folder)) {
    return {};
  }
  return concat("data set ", name, " was not found");
}

Json Task::evaluate(const std::filesystem::path& run, const std::string& /*data_folder*/) const {
  throw ArgumentError(concat(run.string(),
                             ": eval judges a model by itself; this is a run of task \"", name(),
                             "\": see moekit inspect"));
}

Json Task::operations(const std::filesystem::path& run, const std::string& /*data_folder*/,
                      int64_t /*batch*/) const {
  throw ArgumentError(concat(run.string(),
                             ": --flops counts a network's forward pass; runs of task \"", name(),
                             "\" have none"));
}

Json Task::merge(const std::filesystem::path& run, const std::string& /*data_folder*/,
                 const compress::MergeOptions& /*options*/,
                 const std::filesystem::path& /*out*/) const {
  throw ArgumentError(concat(run.string(), ": merge takes runs of task \"classification\"; this ",
                             "is one of task \"", name(), "\""));
}

Json Task::tokenize(const ConfigTree& recipe, const std::filesystem::path& /*folder*/,
                    const std::function<bool(int64_t, int64_t)>& /*progress*/) const {
  throw ArgumentError(concat(
      origin_of(recipe, "task"),
      ": tokenize takes recipes of task \"language\"; this is one of task \"", name(), "\""));
}

Json Task::generate(const std::filesystem::path& run, const text::GenerationOptions& /*options*/,
                    const std::string& /*weights*/,
                    const std::function<void(std::string_view)>& /*sink*/) const {
  throw ArgumentError(concat(run.string(), ": generate takes runs of task \"language\"; this is ",
                             "one of task \"", name(), "\""));
}

Json operations_json(const std::filesystem::path& run, int64_t batch,
                     const tensor::OperationCounter& counter) {
  Json parts = Json::array();
  for (const auto& [name, operations] : counter.parts()) {
    parts.push_back({{"name", name.empty() ? "other" : name}, {"operations", operations}});
  }
  return {{"run", run.string()},
          {"batch", batch},
          {"operations", counter.total()},
          {"parts", std::move(parts)}};
}

std::string task_name(const ConfigTree& recipe) {
  const auto found = recipe.values.find("task");
  if (found == recipe.values.end()) return "classification";
  MOEKIT_CHECK(found->is_string(), origin_of(recipe, "task"), ": task: wanted a string; got ",
               found->dump());
  return found->get<std::string>();
}

}  // namespace moekit::run
