#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "moekit/core/config.h"

/// What every kind of run has in its folder, whatever it trains.
namespace moekit::run {

struct RunOptions {
  std::filesystem::path folder;
  std::string data_folder;
  bool resume = false;
  bool quiet = false;  ///< no progress
};

enum class RunStatus { kFinished, kInterrupted };

/// Refuses a folder that holds a run already, unless it holds this recipe and `resume` is on;
/// a new one gets config.toml and run.json.
/// @return whether the folder holds this run
/// @throws ArgumentError when it holds another, or `resume` is off.
bool claim_run_folder(const Json& recipe, int64_t seed, int64_t threads, const RunOptions& options);

/// @throws FormatError naming the file when it is no JSON.
Json read_json(const std::filesystem::path& path);
void write_json(const std::filesystem::path& path, const Json& json);

/// metrics.jsonl: one line a test.
void write_metrics(const std::filesystem::path& folder, const std::vector<Json>& metrics);
std::vector<Json> read_metrics(const std::filesystem::path& folder);

/// Summary of a finished run. @throws IoError when it is not finished.
Json read_summary(const std::filesystem::path& folder);

/// A run's checkpoints by step.
std::map<int64_t, std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);

}  // namespace moekit::run
