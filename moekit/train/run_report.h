#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "moekit/report/page.h"
#include "moekit/train/run.h"

namespace moekit::train {

/// Runs of one recipe, its seeds.
struct RunGroup {
  std::string name;
  std::vector<std::filesystem::path> runs;
};

/// Runs whose folders differ by "seedN" alone are seeds of one recipe.
std::vector<RunGroup> group_by_recipe(const std::vector<std::filesystem::path>& runs);

/// Makes the part of a page that shows one run.
using SectionMaker =
    std::function<report::ModelSection(const std::string& title, const std::filesystem::path& run)>;

/// A page over finished runs: comparison table over recipes and seeds, then for each recipe its
/// first run in pictures. @throws IoError for a folder that holds no finished run.
report::Page make_report(const std::vector<RunGroup>& groups, const SectionMaker& section);

/// A classification run: who gets which class, curves, images, confusion.
/// @param data  what load_run_data() gives for its recipe
report::ModelSection classification_section(const std::string& title,
                                            const std::filesystem::path& run, const RunData& data);

/// "original" for ".../original-seed3" and ".../original/seed3".
std::string recipe_name(const std::filesystem::path& run);

}  // namespace moekit::train
