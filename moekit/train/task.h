#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/report/page.h"
#include "moekit/study/study.h"
#include "moekit/train/run_folder.h"

namespace moekit::train {

/// A kind of run: what its recipes say, how it is trained, what its folder shows. A recipe names it
/// by its key `task` ("classification" where there is none). A new kind implements this and is
/// listed in cli/tasks.cpp; commands, resuming and reports are the same for all.
class Task {
 public:
  virtual ~Task() = default;
  virtual std::string_view name() const = 0;
  /// All keys of its recipes with their defaults.
  virtual std::vector<ConfigKey> keys() const = 0;
  /// Refuses an impossible recipe. @throws ArgumentError naming the key.
  virtual void check(const ConfigTree& recipe) const = 0;
  /// The data set a recipe needs from a folder, or nothing.
  virtual std::string data_set(const ConfigTree& recipe) const = 0;
  /// Trains in a run folder that ends up with config.toml, metrics.jsonl and summary.json.
  virtual RunStatus run(const ConfigTree& recipe, const RunOptions& options) const = 0;
  /// What a finished run tells about its experts.
  virtual Json inspect(const std::filesystem::path& run, const std::string& data_folder,
                       const std::string& against) const = 0;
  /// The run's part of a report page.
  virtual report::ModelSection section(const std::string& title, const std::filesystem::path& run,
                                       const std::string& data_folder) const = 0;
};

/// The name a recipe gives its task. @throws ArgumentError when it is no string.
std::string task_name(const ConfigTree& recipe);

/// Classification by single networks, mixtures and sparse layers: train::run_recipe().
const Task& classification_task();

/// The figures of a study of classifiers that names none.
std::vector<study::Figure> classification_figures();

}  // namespace moekit::train
