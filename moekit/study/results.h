#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "moekit/core/statistics.h"
#include "moekit/study/jobs.h"
#include "moekit/study/study.h"

namespace moekit::study {

/// A figure of one row over the seeds that were run.
struct Cell {
  Summary ours;
  std::optional<double> paper;
  std::optional<double> reference;
  std::string verdict;  ///< against the paper's value, where the figure has a direction
};
struct RowResult {
  std::string name;
  std::string label;
  std::vector<std::string> runs;      ///< folders of finished runs
  std::map<std::string, Cell> cells;  ///< by figure
  std::string missing;                ///< why there is no run, or empty
};

enum class Verdict { kHeld, kNotHeld, kNotTested };
struct ClaimResult {
  std::string text;
  std::string source;
  Verdict verdict = Verdict::kNotTested;
  std::string detail;  ///< the numbers, or the reason
};

/// Gathers the summaries of a row's runs. @param folder OUT; runs lie in OUT/ROW/seedN
/// @param figures  the study's
/// A row's figure counts as reproduced when the paper's value lies within two standard errors of
/// our mean, or ours is better.
RowResult gather_row(const Row& row, const std::vector<Figure>& figures,
                     const std::filesystem::path& folder, int64_t seeds);

/// As `gather_row` for all rows that tables show, with the reason where one was not or could not be
/// run. @param missing  a plan's
std::vector<RowResult> gather_rows(const std::vector<Row>& rows, const std::vector<Figure>& figures,
                                   const std::filesystem::path& folder, int64_t seeds,
                                   const std::map<std::string, std::string>& missing,
                                   const Failures& failures);

/// Decides a claim on the rows' means (or medians, as the figure says). Not tested when a row has
/// no run.
ClaimResult judge(const Claim& claim, const std::vector<Figure>& figures,
                  const std::vector<RowResult>& rows);

}  // namespace moekit::study

template <>
struct moekit::EnumNames<moekit::study::Verdict> {
  static constexpr std::array<std::pair<study::Verdict, std::string_view>, 3> kTable{{
      {study::Verdict::kHeld, "held"},
      {study::Verdict::kNotHeld, "not held"},
      {study::Verdict::kNotTested, "not tested"},
  }};
};
