#pragma once

#include <filesystem>

#include "moekit/study/reproduction.h"

namespace moekit::study {

/// An outcome as it is kept beside its tables: the command, what made the runs, and every figure of
/// every seed, so that the tables can be made again and held against new runs.
/// @throws ArgumentError when runs of several versions or machines are among them, naming both
Json to_record(const Outcome& outcome);

/// Refuses a file that is no record. @throws IoError; FormatError naming file and key
void check_is_record(const std::filesystem::path& file);

/// The outcome a record tells: rows and trials as they were, judged by the study as it is now.
/// @throws FormatError naming file and key, also where rows and seeds are not those that its
/// command
///         gives; ArgumentError for rows that the study does not have
Outcome read_record(const Study& study, const std::filesystem::path& file);

/// A figure of one seed as recorded and as it was found again.
struct Deviation {
  std::string run;
  std::string figure;
  double recorded = 0;
  double found = 0;
  double allowed = 0;  ///< the largest difference that is none
};

/// Holds new runs of recorded seeds against the record.
/// @param again  rows of the record with some of their seeds, run again
/// @return those further apart than allowed: where the same machine and version made both, rounding
///         of the tables (one in the fourth digit behind the point); else two standard errors of
///         the row's figure
std::vector<Deviation> deviations(const Outcome& recorded, const std::vector<RowResult>& again);

}  // namespace moekit::study
