#pragma once

#include <filesystem>

#include "moekit/core/config.h"
#include "moekit/models/classifier.h"
#include "moekit/tasks/classification/run_data.h"

namespace moekit::classification {

/// What a summary says of a finished model: "parameters", "test", "train" and, where the data have
/// them, "validation" and "alignment". Writes trace.safetensors, of the test images, into `folder`.
Json judge(models::ClassifierImpl& model, const RunData& data, const std::filesystem::path& folder);

}  // namespace moekit::classification
