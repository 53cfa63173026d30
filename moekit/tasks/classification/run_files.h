#pragma once

#include <filesystem>
#include <vector>

#include "moekit/core/config.h"

/// What finished runs of this task have in their files, checked before anything is made of it.
namespace moekit::classification {

/// summary.json. @throws IoError when the run is not finished; FormatError naming file and key
Json read_run_summary(const std::filesystem::path& run);

/// metrics.jsonl. @throws IoError; FormatError naming file, line and key
std::vector<Json> read_run_metrics(const std::filesystem::path& run);

}  // namespace moekit::classification
