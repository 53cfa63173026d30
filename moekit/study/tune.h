#pragma once

#include <string>
#include <vector>

#include "moekit/study/results.h"

namespace moekit::study {

/// Seeds of searches: none that a table's rows can have.
inline constexpr int64_t kFirstTuningSeed = kMaxSeeds + 1;

/// A point of a search's grid, tried for one row.
struct Trial {
  std::string row;
  std::vector<std::string> set;  ///< the point, "key=value" each
  Estimate figure;               ///< over the search's seeds
  std::string missing;           ///< why it cannot be chosen, or empty
  bool chosen = false;
};

/// The rows whose runs a search is made of, "tune/ROW/K" for point K of the grid, the last key's
/// values running fastest. @param rows  those of the study that are run
std::vector<Row> trial_rows(const Study& study, const std::vector<Row>& rows);

/// Which point is best for each row: by the search's figure, of those with all seeds; the first of
/// equal ones.
/// None where a row has no such point.
/// @param results  of `trial_rows`, in that order
std::vector<Trial> choose_trials(const Study& study, const std::vector<Row>& rows,
                                 const std::vector<RowResult>& results);

/// Why a row that is tuned has no settings, or nothing.
std::string why_untuned(const std::string& row, const std::vector<Trial>& trials);

/// The row with the settings that were chosen for it, behind its own.
Row tuned_row(Row row, const std::vector<Trial>& trials);

}  // namespace moekit::study
