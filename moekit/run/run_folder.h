#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/core/file_lock.h"
#include "moekit/core/schema.h"

/// What every kind of run has in its folder, whatever it trains.
namespace moekit::run {

struct RunOptions {
  std::filesystem::path folder;
  std::string data_folder;
  bool resume = false;
  bool quiet = false;  ///< no progress
  /// Keeps where the run stands in this file (core/work_status.h), where it is given.
  std::filesystem::path status = {};
  /// Takes what the user should know: a damaged checkpoint that was passed over, parameters that
  /// nothing trains.
  std::function<void(const std::string& text)> notice = {};
  /// With `resume`: keys that may change on resume can be others than the run's.
  bool extend = false;
};

enum class RunStatus { kFinished, kInterrupted };

/// The folder of a run while this process trains in it: made where there is none, locked against
/// other processes, and freed of what processes that died have left. A new folder is taken away
/// again unless something is trained in it.
class RunFolder {
 public:
  /// @throws IoError naming the process that trains there already.
  explicit RunFolder(const std::filesystem::path& folder);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder();
  /// Something was trained.
  void keep() { fresh_ = false; }

 private:
  std::filesystem::path folder_;
  std::filesystem::path topmost_;  ///< of the folders that were made
  bool fresh_ = true;
  std::optional<FileLock> lock_;
};

/// A recipe, and how another is held against it.
struct RunRecipe {
  Json values;                       ///< as resolved
  std::vector<ConfigKey> keys = {};  ///< which of them may change on resume
  /// The same of a run folder's config.toml: defaults filled in. None: it is taken as it stands.
  std::function<Json(const ConfigTree&)> resolve = {};
  std::string data = {};  ///< checksum of the data set it is trained on; empty for a generated one
  /// Checksums of the other runs' models that it starts from, by the key that names the run.
  std::map<std::string, std::string> models = {};
};

/// A recipe's values in its task's struct. @throws ArgumentError naming line and key
template <typename Config>
Config bound(const ConfigTree& recipe) {
  Config config;
  bind_config(recipe, config);
  return config;
}

/// @param data, models  see RunRecipe
template <typename Config>
RunRecipe recipe_of(const Config& config, std::string data = {},
                    std::map<std::string, std::string> models = {}) {
  return {to_json(config), config_keys(config),
          [](const ConfigTree& tree) { return to_json(bound<Config>(tree)); }, std::move(data),
          std::move(models)};
}

/// What a folder holds: nothing yet, a run of this recipe, or one that can be extended to it.
enum class Claim { kNew, kSame, kExtends };

/// Refuses a folder that holds a run already, unless it holds this recipe and `resume` is on;
/// a new one gets config.toml and run.json. One to be extended is not changed yet. A run that ended
/// before its first checkpoint makes way without `resume`.
/// @throws ArgumentError when it holds another recipe, naming the keys that differ with both
///         values, or was trained on other data, or `resume` is off.
Claim claim_run_folder(const RunRecipe& recipe, int64_t seed, int64_t threads,
                       const RunOptions& options);
/// Makes a claimed folder one of the new recipe, unfinished.
void extend_run_folder(const RunRecipe& recipe, const RunOptions& options);

/// Why a finished run is not one of this recipe, of this version of moekit and of these data, or
/// nothing. @throws FormatError, IoError
std::string why_other_run(const std::filesystem::path& folder, const RunRecipe& recipe);

/// metrics.jsonl: one line a test.
void write_metrics(const std::filesystem::path& folder, const std::vector<Json>& metrics);
/// @param line  what each must be, which a task knows; an object at least
/// @throws FormatError naming file, line and key
std::vector<Json> read_metrics(const std::filesystem::path& folder,
                               const Schema& line = Schema::map(Schema::any()));

/// Summary of a finished run: an object with what all have, parameters, seed and seconds.
/// @param more  what it must be besides, which a task knows
/// @throws IoError when it is not finished, FormatError naming file and key.
Json read_summary(const std::filesystem::path& folder,
                  const Schema& more = Schema::map(Schema::any()));

/// A run's checkpoints by step.
std::map<int64_t, std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);
/// Those that have the files that all have. One without was being deleted when its process died.
std::map<int64_t, std::filesystem::path> whole_checkpoints(const std::filesystem::path& folder);

/// @throws IoError for a folder without the model of a finished run. @param key  before the message
void check_has_model(const std::string& key, const std::filesystem::path& run);

/// Checksums of the models of runs that a recipe starts from, by the key that names each, for
/// `RunRecipe::models`; none for an empty name, or where there is no model, which is missed when it
/// is read.
std::map<std::string, std::string> model_checksums(const std::map<std::string, std::string>& runs);

}  // namespace moekit::run
