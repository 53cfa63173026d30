#pragma once

#include <filesystem>

#include "moekit/core/config.h"
#include "moekit/tasks/classification/run_data.h"

namespace moekit::classification {

/// Operations of the model of a finished run on its first `batch` test images, in evaluation mode:
/// see run::Task::operations(). They depend on the images only where a layer drops assignments or
/// samples differ in how many experts they have; and on how many there are where experts are merged
/// for each.
/// @param folder  run folder; @param data  what load_run_data() gives for its recipe
/// @throws ArgumentError when there are fewer test images; IoError, FormatError of the model
Json count_operations(const std::filesystem::path& folder, const RunData& data, int64_t batch);

}  // namespace moekit::classification
