#include "moekit/run/task.h"

namespace moekit::run {

Json Task::evaluate(const std::filesystem::path& run, const std::string& /*data_folder*/) const {
  throw ArgumentError(concat(run.string(),
                             ": eval judges a model by itself; this is a run of task \"", name(),
                             "\": see moekit inspect"));
}

std::string task_name(const ConfigTree& recipe) {
  const auto found = recipe.values.find("task");
  if (found == recipe.values.end()) return "classification";
  MOEKIT_CHECK(found->is_string(), origin_of(recipe, "task"), ": task: wanted a string; got ",
               found->dump());
  return found->get<std::string>();
}

}  // namespace moekit::run
