#include "moekit/tasks/tasks.h"

#include "moekit/tasks/classification/task.h"
#include "moekit/tasks/continual/task.h"
#include "moekit/tasks/federated/task.h"
#include "moekit/tasks/language/task.h"
#include "moekit/tasks/merged_linear/task.h"
#include "moekit/tasks/soft_routed/task.h"
#include "moekit/tasks/sparse_layer/task.h"

namespace moekit::tasks {

const std::vector<const run::Task*>& all() {
  static const std::vector<const run::Task*> kTasks = {
      &classification::task(), &continual::task(),   &federated::task(),    &language::task(),
      &merged_linear::task(),  &soft_routed::task(), &sparse_layer::task(),
  };
  return kTasks;
}

const run::Task& of_recipe(const ConfigTree& recipe) {
  const std::string name = run::task_name(recipe);
  std::string known;
  for (const auto* task : all()) {
    if (task->name() == name) return *task;
    known += concat(" ", task->name());
  }
  throw ArgumentError(
      concat(origin_of(recipe, "task"), ": unknown task \"", name, "\"; known:", known));
}

const run::Task& check_recipe(const ConfigTree& recipe) {
  const run::Task& task = of_recipe(recipe);
  locate_errors(
      recipe, [&] { task.check(recipe); }, origin_of(recipe, ""));
  return task;
}

const run::Task& of_run(const std::filesystem::path& run) {
  const auto recipe = run / "config.toml";
  if (!std::filesystem::exists(recipe)) throw IoError(concat(run.string(), ": is no run folder"));
  return of_recipe(read_toml(recipe));
}

}  // namespace moekit::tasks
