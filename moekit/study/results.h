#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "moekit/core/statistics.h"
#include "moekit/study/estimate.h"
#include "moekit/study/jobs.h"
#include "moekit/study/plan.h"
#include "moekit/study/study.h"

namespace moekit::study {

/// Fewer seeds decide nothing: of three, a t interval is wider than the effect it is to bound.
inline constexpr std::size_t kLeastSeeds = 5;

/// By what a run was made.
struct Maker {
  std::string version;  ///< of moekit
  std::string libtorch;
  std::string machine;  ///< processor and instruction set
  friend bool operator==(const Maker&, const Maker&) = default;
};

std::string text_of(const Maker& maker);

/// One seed of a row.
struct SeedRun {
  int64_t seed = 0;
  std::filesystem::path folder;          ///< empty where it is known from a record alone
  std::string missing;                   ///< why it does not count, or empty
  std::map<std::string, double> values;  ///< figure -> value; NaN: none though the run tells it
  Maker maker;
};

/// What there is of a row.
struct RowRuns {
  std::vector<SeedRun> seeds;   ///< all that were asked for, in order
  std::string missing;          ///< why none could be run, or empty
  std::string data;             ///< name of the data set, or empty
  std::string usual_data = {};  ///< where the known values are of another one: its name
};

/// How a figure stands against the paper's value.
enum class Standing {
  kNone,        ///< there is none, or no value of ours
  kUndecided,   ///< fewer than `kLeastSeeds`
  kReproduced,  ///< the paper's value lies in our interval, or within the figure's margin of it
  kBetter,
  kWorse,
  kDiffers,  ///< of a figure without a direction
};

/// A figure of one row over its seeds.
struct Cell {
  std::vector<double> values;  ///< one a seed of the row; NaN: none
  bool applies = false;        ///< some run tells it
  std::size_t excepted = 0;    ///< finished runs that a conditional figure is not told of
  Summary ours;                ///< of those there are
  Estimate estimate;           ///< by the figure's statistic
  std::optional<double> paper;
  std::optional<double> reference;
  Standing standing = Standing::kNone;
  bool against = false;  ///< better where the row is to be worse, or the reverse

  std::size_t missing() const { return applies ? values.size() - excepted - ours.count : 0; }
};
struct RowResult {
  std::string name;
  std::string label;
  RowRuns runs;
  std::map<std::string, Cell> cells;  ///< by figure
  std::string tuned;                  ///< the settings a search chose, or empty
  int64_t trials = 0;                 ///< points that the search tried
  std::size_t trial_runs = 0;         ///< finished runs of all of them

  /// Folders of the runs that count.
  std::vector<std::filesystem::path> folders() const;
  /// In words, why fewer runs count than were asked for; empty where all do.
  std::string what_is_missing() const;
};

/// Why a finished run is not the one that is asked for (another recipe, version or data), or
/// nothing.
using RunCheck = std::function<std::string(const ConfigTree& asked, const std::filesystem::path&)>;

/// What made a finished run, by its run.json, and the figures that its summary.json tells.
/// @throws IoError; FormatError naming the file
Maker read_maker(const std::filesystem::path& run);
std::map<std::string, double> read_values(const std::filesystem::path& run,
                                          const std::vector<Figure>& figures);

/// Why a run cannot stand in a table: "not run", "not finished", what `check` says; or nothing.
std::string why_not_there(const Row& row, int64_t seed, const PlanOptions& options,
                          const RunCheck& check);

/// Reads the runs of a row. @param plan  says what could not be run
/// @param failures  of the jobs that were run just now
/// A run whose files are damaged is missing, with the reason.
RowRuns collect_runs(const Row& row, const std::vector<Figure>& figures, const PlanOptions& options,
                     const Plan& plan, const Failures& failures, const RunCheck& check);

/// Sums up a row over its runs. Values of paper and reference are left out where they are of other
/// data.
RowResult summarize_row(const Row& row, const std::vector<Figure>& figures, RowRuns runs);

/// What made the runs that count: one, or a table of them would compare machines or versions.
std::vector<Maker> makers_of(const std::vector<RowResult>& rows);

}  // namespace moekit::study

template <>
struct moekit::EnumNames<moekit::study::Standing> {
  static constexpr std::array<std::pair<study::Standing, std::string_view>, 6> kTable{{
      {study::Standing::kNone, ""},
      {study::Standing::kUndecided, "undecided"},
      {study::Standing::kReproduced, "reproduced"},
      {study::Standing::kBetter, "better"},
      {study::Standing::kWorse, "worse"},
      {study::Standing::kDiffers, "differs"},
  }};
};
