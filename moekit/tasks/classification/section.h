#pragma once

#include <filesystem>
#include <string>

#include "moekit/report/page.h"
#include "moekit/tasks/classification/run_data.h"

namespace moekit::classification {

/// A classification run on a page: who gets which class, curves, images, confusion.
/// @param data  what load_run_data() gives for its recipe
report::ModelSection make_section(const std::string& title, const std::filesystem::path& run,
                                  const RunData& data);

}  // namespace moekit::classification
