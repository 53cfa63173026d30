#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/study/estimate.h"

namespace moekit::study {

/// Which of two values of a figure is the better one.
enum class Better { kNone, kLower, kHigher };

/// What the paper means to show by a row: that it does well, or that it does badly.
enum class Expect { kBetter, kWorse };

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
  /// A row that does better than in the paper, where the paper's point is how badly it does, speaks
  /// against the paper.
  Expect expect = Expect::kBetter;

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
    field("expect", expect, "");
  }
};

/// left OP factor * right + offset, seed by seed. `right` is "row.figure" or empty (then the bound
/// is the offset alone).
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

/// A figure of a study's tables, and where it stands in a run's summary.
struct Figure {
  std::string name;
  std::string title;
  std::string pointer;                     ///< JSON pointer
  Better better = Better::kNone;           ///< with a direction, other values are better or worse
  Statistic statistic = Statistic::kMean;  ///< what is told of its seeds, and claims look at
  /// The paper's value is reproduced when it lies this near the interval of ours, in the figure's
  /// unit.
  double margin = 0;
  bool conditional = false;  ///< runs whose summary does not tell it do not count for it

  template <typename Field>
  void visit(Field&& field) {
    field("name", name, "");
    field("title", title, "");
    field("pointer", pointer, "");
    field("better", better, "");
    field("statistic", statistic, "");
    field("margin", margin, "", at_least(0));
    field("conditional", conditional, "");
  }
};

/// Rows that are to be compared get their best settings by the same search: every point of the grid
/// is run on seeds that no table sees, and each row takes the one with the best figure.
struct Tune {
  std::vector<std::string> rows;
  Json grid = Json::object();  ///< key -> list of values; every combination is tried
  std::string figure;          ///< with a direction; of validation data, not of the test set
  int64_t seeds = 3;           ///< a point

  template <typename Field>
  void visit(Field&& field) {
    field("rows", rows, "");
    field("grid", grid, "");
    field("figure", figure, "");
    field("seeds", seeds, "");
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
  /// The first of these data sets that is found is used, unless the user sets another. The values
  /// of paper and reference are of the first.
  std::vector<std::string> quick_data;
  std::vector<Figure> figure;  ///< columns; without any, those read_study() is given
  std::vector<Row> row;
  std::vector<Tune> tune;
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
    field("tune", tune, "");
    field("claim", claim, "");
  }
};

/// Seeds of a row: above that it is a typing error.
inline constexpr int64_t kMaxSeeds = 10'000;
/// Points of a search's grid: likewise.
inline constexpr int64_t kMaxTrials = 1'000;

/// Whether runs can lie in OUT/NAME: parts between slashes without "." and "..", without control
/// characters, none of them "logs", "tune" or "report.html" at the start or "seedN", which OUT has
/// of its own.
bool is_row_name(const std::string& name);

/// @param default_figures  of a study that names none
/// @throws IoError; ArgumentError naming file, line and row or claim: values of a wrong type or out
///         of range, names that leave the folder of runs, two rows or figures of one name, rows
///         that need a later one, unknown rows, figures, operators, claims on rows of another tier,
///         a search that cannot choose.
Study read_study(const std::filesystem::path& file, const std::vector<Figure>& default_figures);

/// As `read_study`, of what was read already.
Study parse_study(const ConfigTree& tree, const std::vector<Figure>& default_figures);

/// "mnist/original.test_error": a figure of a row.
struct Reference {
  std::string row;
  std::string figure;
};
/// @param where  for the message. @throws ArgumentError without a dot
Reference parse_reference(const std::string& text, const std::string& where);

/// The figure of that name; read_study() has seen that it is there.
const Figure& figure_of(const std::vector<Figure>& figures, const std::string& name);

/// The search that a row takes part in, or null.
const Tune* tune_of(const Study& study, const std::string& row);

/// What the run of a row is called, and its folder below OUT: "mnist/original/seed3".
std::string run_name(const std::string& row, int64_t seed);

}  // namespace moekit::study

template <>
struct moekit::EnumNames<moekit::study::Better> {
  static constexpr std::array<std::pair<study::Better, std::string_view>, 3> kTable{{
      {study::Better::kNone, "none"},
      {study::Better::kLower, "lower"},
      {study::Better::kHigher, "higher"},
  }};
};

template <>
struct moekit::EnumNames<moekit::study::Expect> {
  static constexpr std::array<std::pair<study::Expect, std::string_view>, 2> kTable{{
      {study::Expect::kBetter, "better"},
      {study::Expect::kWorse, "worse"},
  }};
};
