#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/core/statistics.h"

namespace moekit::study {

/// One row of a paper's table: a recipe with changes, run over several seeds.
struct Row {
  std::string name;
  std::string tier;                 ///< "quick" or "full"
  std::string label;                ///< as the paper calls it
  std::string recipe;               ///< path, relative to the study's folder
  std::vector<std::string> set;     ///< overrides, "key=value"
  Json cycle = Json::object();      ///< key -> list of values; seed s takes entry (s - 1) mod n
  Json needs = Json::object();      ///< key -> row whose run of the same seed is put in
  Json paper = Json::object();      ///< figure -> the paper's printed value
  Json reference = Json::object();  ///< figure -> another implementation's value, see Study
  bool auxiliary = false;           ///< only a step towards other rows; not shown in tables
  int64_t seeds = 0;                ///< at most so many seeds; 0: as many as are asked for

  template <typename Field>
  void visit(Field&& field) {
    field("name", name, "");
    field("tier", tier, "");
    field("label", label, "");
    field("recipe", recipe, "");
    field("set", set, "");
    field("cycle", cycle, "");
    field("needs", needs, "");
    field("paper", paper, "");
    field("reference", reference, "");
    field("auxiliary", auxiliary, "");
    field("seeds", seeds, "");
  }
};

/// left OP factor * right + offset, on means over seeds. `right` is "row.figure" or empty (then
/// the bound is the offset alone).
struct Check {
  std::string left;
  std::string op;
  std::string right;
  double factor = 1;
  double offset = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("left", left, "");
    field("op", op, "");
    field("right", right, "");
    field("factor", factor, "");
    field("offset", offset, "");
  }
};

/// A sentence of the paper (or of ours, then marked) and the checks that decide it.
struct Claim {
  std::string text;
  std::string source;
  std::string tier;
  std::vector<Check> check;

  template <typename Field>
  void visit(Field&& field) {
    field("text", text, "");
    field("source", source, "");
    field("tier", tier, "");
    field("check", check, "");
  }
};

/// Which of two values of a figure is the better one.
enum class Better { kNone, kLower, kHigher };

/// A figure of a study's tables, and where it stands in a run's summary.
struct Figure {
  std::string name;
  std::string title;
  std::string pointer;             ///< JSON pointer
  Better better = Better::kNone;   ///< with a direction, rows are judged against the paper's value
  std::string statistic = "mean";  ///< "mean" or "median": what claims look at

  template <typename Field>
  void visit(Field&& field) {
    field("name", name, "");
    field("title", title, "");
    field("pointer", pointer, "");
    field("better", better, "");
    field("statistic", statistic, "");
  }
};

/// A paper's reproduction: rows, claims, and how many seeds each tier takes by default.
struct Study {
  std::string title;
  std::string source;
  std::string reference;  ///< what the rows' reference values are
  std::vector<std::string> notes;
  int64_t quick_seeds = 5;
  int64_t full_seeds = 5;
  std::vector<std::string> quick_data;  ///< the first of these data sets that is found is used
  std::vector<Figure> figure;           ///< columns; without any, those of image classifiers
  std::vector<Row> row;
  std::vector<Claim> claim;

  template <typename Field>
  void visit(Field&& field) {
    field("title", title, "");
    field("source", source, "");
    field("reference", reference, "");
    field("notes", notes, "");
    field("quick_seeds", quick_seeds, "");
    field("full_seeds", full_seeds, "");
    field("quick_data", quick_data, "");
    field("figure", figure, "");
    field("row", row, "");
    field("claim", claim, "");
  }
};

/// @throws FormatError, or ArgumentError naming the row or claim: unknown rows, figures, operators.
Study read_study(const std::filesystem::path& file);

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

/// Decides a claim on the rows' means (or medians, as the figure says). Not tested when a row has
/// no run.
ClaimResult judge(const Claim& claim, const std::vector<Figure>& figures,
                  const std::vector<RowResult>& rows);

/// Text table of all rows, one block a figure set, then the claims.
std::string to_text(const Study& study, const std::vector<RowResult>& rows,
                    const std::vector<ClaimResult>& claims);
/// The same as Markdown, for committing beside the recipe.
std::string to_markdown(const Study& study, const std::vector<RowResult>& rows,
                        const std::vector<ClaimResult>& claims, const std::string& command);
Json to_json(const Study& study, const std::vector<RowResult>& rows,
             const std::vector<ClaimResult>& claims);

}  // namespace moekit::study

template <>
struct moekit::EnumNames<moekit::study::Verdict> {
  static constexpr std::array<std::pair<study::Verdict, std::string_view>, 3> kTable{{
      {study::Verdict::kHeld, "held"},
      {study::Verdict::kNotHeld, "not held"},
      {study::Verdict::kNotTested, "not tested"},
  }};
};
template <>
struct moekit::EnumNames<moekit::study::Better> {
  static constexpr std::array<std::pair<study::Better, std::string_view>, 3> kTable{{
      {study::Better::kNone, "none"},
      {study::Better::kLower, "lower"},
      {study::Better::kHigher, "higher"},
  }};
};
