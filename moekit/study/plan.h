#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/study/jobs.h"
#include "moekit/study/study.h"

namespace moekit::study {

/// The rows of a tier whose name fits a pattern (as file names do: `*`, `?`, `[...]`), and those
/// they need, in the study's order.
std::vector<Row> choose_rows(const Study& study, const std::string& tier,
                             const std::string& pattern);

struct PlanOptions {
  std::filesystem::path program;      ///< run as `PROGRAM train RECIPE --seed N ...`
  std::filesystem::path folder;       ///< of the study; its recipes lie below it
  std::filesystem::path out;          ///< runs go to OUT/ROW/seedN, their logs to OUT/logs
  int64_t seeds = 1;                  ///< a row: 1..seeds
  std::vector<std::string> set = {};  ///< overrides of every row, "key=value"
  std::string data_folder = {};       ///< the runs' --data, may be empty
};

/// What is to be run, and which rows cannot be.
struct Plan {
  std::vector<Job> jobs;                       ///< seed after seed; rows in their order
  std::map<std::string, std::string> missing;  ///< row -> reason
};

/// Says why a recipe with all its overrides cannot be run here (a data set that is not there), or
/// nothing. Throws to refuse the whole plan: a recipe that makes no sense.
using RecipeCheck = std::function<std::string(const ConfigTree& recipe)>;

/// Runs of a plan: each is a process and a folder.
inline constexpr int64_t kMaxRuns = 100'000;

/// One job for each row and seed; a row that needs another runs after it, and not at all where that
/// one is missing. @throws what `check` throws; ArgumentError for more than `kMaxSeeds` or
/// `kMaxRuns`; from reading the recipes also IoError and FormatError
Plan make_plan(const std::vector<Row>& rows, const PlanOptions& options, const RecipeCheck& check);

}  // namespace moekit::study
