#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moekit::cli {

/// Where recipes lie: $MOEKIT_RECIPES, ../share/moekit/recipes beside the program, ./recipes, or
/// the source tree the program was built from.
/// @return the folder of a paper's study.toml
/// @throws ArgumentError listing the papers there are.
std::filesystem::path find_study(const std::string& paper);

/// The papers there are, in order.
std::vector<std::string> study_names();

}  // namespace moekit::cli
