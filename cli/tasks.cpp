#include "cli/tasks.h"

#include "moekit/theory/soft_routed_task.h"

namespace moekit::cli {

const std::vector<const train::Task*>& tasks() {
  static const std::vector<const train::Task*> kTasks = {&train::classification_task(),
                                                         &theory::soft_routed_task()};
  return kTasks;
}

const train::Task& task_of(const ConfigTree& recipe) {
  const std::string name = train::task_name(recipe);
  std::string known;
  for (const auto* task : tasks()) {
    if (task->name() == name) return *task;
    known += concat(" ", task->name());
  }
  throw ArgumentError(
      concat(origin_of(recipe, "task"), ": unknown task \"", name, "\"; known:", known));
}

const train::Task& task_of_run(const std::filesystem::path& run) {
  const auto recipe = run / "config.toml";
  if (!std::filesystem::exists(recipe)) throw IoError(concat(run.string(), ": is no run folder"));
  return task_of(read_toml(recipe));
}

train::SectionMaker section_maker(const std::string& data_folder) {
  return [data_folder](const std::string& title, const std::filesystem::path& run) {
    return task_of_run(run).section(title, run, data_folder);
  };
}

}  // namespace moekit::cli
