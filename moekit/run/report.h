#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "moekit/report/page.h"
#include "moekit/run/task.h"

namespace moekit::run {

/// Runs of one recipe, its seeds.
struct RunGroup {
  std::string name;
  std::vector<std::filesystem::path> runs;
};

/// Runs whose folders differ by "seedN" alone are seeds of one recipe.
std::vector<RunGroup> group_by_recipe(const std::vector<std::filesystem::path>& runs);

/// The task of a run folder. @throws IoError when it is none
using TaskOf = std::function<const Task&(const std::filesystem::path& run)>;

/// A page over finished runs: for each recipe its first run's picture, a table over recipes and
/// seeds, details. The first sentence says what the pictures show and which recipes stand out.
/// @throws IoError for a folder that holds no finished run.
/// @param figure_table  the figures' table, a row a group, in place of the tasks' own figures
report::Page make_report(const std::vector<RunGroup>& groups, const TaskOf& task_of,
                         const std::string& data_folder,
                         const std::optional<report::Table>& figure_table = std::nullopt);

/// What a page finds in these figures, in clauses: "the test error is lowest with “a” (0.09)".
/// @param values  [figures][groups], NaN for none
std::string findings(const std::vector<ReportFigure>& figures,
                     const std::vector<std::string>& groups,
                     const std::vector<std::vector<double>>& values);

/// "original" for ".../original-seed3" and ".../original/seed3".
std::string recipe_name(const std::filesystem::path& run);

/// A chart of figures that stand at these places of every line of metrics.
/// @param places  name and JSON pointer
report::Chart chart_of(const std::string& title, const std::string& y_title,
                       const std::vector<Json>& lines,
                       const std::vector<std::pair<std::string, std::string>>& places);

}  // namespace moekit::run
