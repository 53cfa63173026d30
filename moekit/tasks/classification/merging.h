#pragma once

#include <filesystem>

#include "moekit/compress/options.h"
#include "moekit/core/config.h"
#include "moekit/tasks/classification/config.h"

namespace moekit::classification {

/// Merges the experts of a finished run's model, see Task::merge().
Json merge_run(const std::filesystem::path& run, const std::string& data_folder,
               const compress::MergeOptions& options, const std::filesystem::path& out);

}  // namespace moekit::classification
