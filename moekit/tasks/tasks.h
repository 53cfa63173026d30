#pragma once

#include <filesystem>
#include <vector>

#include "moekit/run/task.h"

/// The table of tasks. Tasks never include each other.
namespace moekit::tasks {

const std::vector<const run::Task*>& all();

/// The task a recipe names. @throws ArgumentError listing the known ones.
const run::Task& of_recipe(const ConfigTree& recipe);

/// Refuses an impossible recipe, see Task::check. @throws ArgumentError naming the key and where it
/// was written; as of_recipe(). @return its task
const run::Task& check_recipe(const ConfigTree& recipe);

/// The task of a run folder. @throws IoError when it is none.
const run::Task& of_run(const std::filesystem::path& run);

}  // namespace moekit::tasks
