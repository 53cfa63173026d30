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

/// The row of this very name, last, behind those it needs.
std::vector<Row> row_with_needed(const Study& study, const std::string& name);

struct PlanOptions {
  std::filesystem::path program;  ///< run as `PROGRAM train RECIPE --seed N ...`
  std::filesystem::path folder;   ///< of the study; its recipes lie below it
  std::filesystem::path out;      ///< runs go to OUT/ROW/seedN, their logs to OUT/logs
  int64_t seeds = 1;              ///< a row: first_seed .. first_seed + seeds - 1
  int64_t first_seed = 1;
  std::vector<std::string> set = {};  ///< overrides of every row, "key=value"; the last one wins
  /// What `set` would hold if nobody had asked for anything else and all data were here: the values
  /// of paper and reference are of that.
  std::vector<std::string> usual_set = {};
  std::string data_folder = {};  ///< the runs' --data, may be empty
};

/// What is to be run, and which rows cannot be.
struct Plan {
  std::vector<Job> jobs;                          ///< seed after seed; rows in their order
  std::map<std::string, std::string> missing;     ///< row -> reason
  std::map<std::string, std::string> data;        ///< row -> name of its data set, where it has one
  std::map<std::string, std::string> usual_data;  ///< row -> that of `usual_set`, where it differs
};

/// What a recipe with all its overrides asks for.
struct RecipeFacts {
  std::string obstacle;  ///< why it cannot be run here (a data set that is not there), or empty
  std::string data_set;  ///< its name, or empty
};
/// Throws to refuse the whole plan: a recipe that makes no sense.
using RecipeCheck = std::function<RecipeFacts(const ConfigTree& recipe)>;

/// Runs of a plan: each is a process and a folder.
inline constexpr int64_t kMaxRuns = 100'000;

/// A value as it stands in "key=value".
std::string toml_value(const Json& value);

/// The recipe of one run of a row, with all its overrides. @throws as make_plan()
ConfigTree asked_recipe(const Row& row, int64_t seed, const PlanOptions& options);

/// One job for each row and seed; a row that needs another runs after it, and not at all where that
/// one is missing. @throws what `check` throws; ArgumentError for more than `kMaxSeeds` or
/// `kMaxRuns`; from reading the recipes also IoError and FormatError
Plan make_plan(const std::vector<Row>& rows, const PlanOptions& options, const RecipeCheck& check);

}  // namespace moekit::study
