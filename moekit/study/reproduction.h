#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "moekit/study/results.h"
#include "moekit/study/tune.h"
#include "moekit/study/verdicts.h"

namespace moekit::study {

struct ReproductionOptions {
  std::string tier = "quick";
  std::string pattern = "*";   ///< of row names
  int64_t seeds = 0;           ///< 0: as many as the study says
  bool until_decided = false;  ///< adds seeds while a claim is undecided,
  int64_t max_seeds = 0;       ///< up to so many
  bool allow_missing = false;  ///< also judges rows that lack seeds
  bool table_only = false;     ///< runs nothing
  int64_t parallel = 1;
  bool quiet = false;
  /// Program, folders, overrides of all rows; its seeds are set here.
  PlanOptions plan;
};

/// What a study's caller knows of its recipes and runs.
struct RecipeKnowledge {
  RecipeCheck check;
  RunCheck why_other;
};

/// What was asked for, for the command that gives the same again.
struct Request {
  std::string paper;  ///< the study's name
  std::string tier;
  std::string rows = "*";  ///< pattern of row names
  int64_t seeds = 0;       ///< 0: as many as the study says
  bool until_decided = false;
  int64_t max_seeds = 0;
  std::vector<std::string> set = {};  ///< the user's overrides
  bool data = false;                  ///< a folder of data was named
  bool allow_missing = false;

  template <typename Field>
  void visit(Field&& field) {
    field("paper", paper, "");
    field("tier", tier, "");
    field("rows", rows, "");
    field("seeds", seeds, "");
    field("until_decided", until_decided, "");
    field("max_seeds", max_seeds, "");
    field("set", set, "");
    field("data", data, "");
    field("allow_missing", allow_missing, "");
  }
};

/// The command in words; the folder of data by a name, since its path is another on every machine.
/// @param seeds  that were run, a row
std::string command_of(const Request& request, int64_t seeds);

/// What was found.
struct Outcome {
  Request request;
  std::string tier;
  std::vector<std::string> notes;  ///< what a reader has to know first
  std::string command;             ///< that gives these tables, whole
  std::vector<std::string> set;    ///< overrides of all rows
  int64_t seeds = 0;               ///< a row
  size_t looks = 1;                ///< how often claims were judged while seeds were added
  bool allow_missing = false;
  std::vector<RowResult> rows;
  std::vector<Trial> trials;
  std::vector<ClaimResult> claims;
  Failures failures;
  bool interrupted = false;  ///< nothing else is filled in then
};

/// Runs what is asked for, searches first, and judges it. The result of adding seeds until all is
/// decided is that of asking for that many at once.
/// @throws ArgumentError for rows that fit no pattern, recipes that make no sense, overrides of
/// what
///         the study sets itself (the seed, what it tunes); IoError where another process runs a
///         study in that folder; as run_jobs(), collect_runs()
Outcome reproduce(const Study& study, const ReproductionOptions& options,
                  const RecipeKnowledge& recipes);

/// Fills in what follows from an outcome's rows: trials of the rows and all claims of its tier.
void judge_all(const Study& study, Outcome& outcome);

}  // namespace moekit::study
