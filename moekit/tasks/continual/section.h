#pragma once

#include "moekit/core/json.h"
#include "moekit/report/page.h"

#include <filesystem>
#include <string>

namespace moekit::continual {

/// summary.json of a run, checked before anything is made of it.
Json read_run_summary(const std::filesystem::path& run);

/// A run's part of a page: the accuracy matrix, accuracy of every task over time, who was merged
/// into whom and how much that was used, and which task uses which expert.
report::ModelSection make_section(const std::string& title, const std::filesystem::path& run);

}  // namespace moekit::continual
