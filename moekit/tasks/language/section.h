#pragma once

#include "moekit/report/page.h"
#include "moekit/tasks/language/config.h"

namespace moekit::language {

/// summary.json of a finished run, checked before anything is made of it.
Json read_run_summary(const std::filesystem::path& run);

/// A run's part of a page: loss and bits per byte over time, which expert gets which domain.
report::ModelSection make_section(const std::string& title, const std::filesystem::path& run);

}  // namespace moekit::language
