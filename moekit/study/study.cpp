#include "moekit/study/study.h"

#include <algorithm>

namespace moekit::study {
namespace {

void check_row_name(const Study& study, const std::string& name, const std::string& where) {
  MOEKIT_CHECK(std::any_of(study.row.begin(), study.row.end(),
                           [&](const Row& row) { return row.name == name; }),
               where, ": there is no row \"", name, "\"");
}

void check_reference(const Study& study, const std::string& text, const std::string& where) {
  const auto reference = parse_reference(text, where);
  check_row_name(study, reference.row, where);
  MOEKIT_CHECK(std::any_of(study.figure.begin(), study.figure.end(),
                           [&](const Figure& f) { return f.name == reference.figure; }),
               where, ": there is no figure \"", reference.figure, "\"");
}

bool is_pointer(const std::string& text) {
  try {
    return !Json::json_pointer(text).empty();
  } catch (const Json::exception&) {
    return false;
  }
}

void check_figure(const Figure& figure, const std::string& where) {
  MOEKIT_CHECK(!figure.name.empty() && is_pointer(figure.pointer), where,
               ": a figure wants a name and a pointer \"/...\"; got \"", figure.name, "\", \"",
               figure.pointer, "\"");
  MOEKIT_CHECK(figure.statistic == "mean" || figure.statistic == "median", where, ": figure ",
               figure.name, ": statistic must be mean or median; got \"", figure.statistic, "\"");
}

void check_row(const Study& study, const Row& row, const std::string& where) {
  MOEKIT_CHECK(!row.name.empty() && !row.recipe.empty(), where, ": a row lacks its name or recipe");
  const std::string at = concat(where, ": row ", row.name, ": ");
  MOEKIT_CHECK(row.tier == "quick" || row.tier == "full", at, "tier must be quick or full; got \"",
               row.tier, "\"");
  MOEKIT_CHECK(row.needs.is_object() && row.cycle.is_object() && row.paper.is_object() &&
                   row.reference.is_object(),
               at, "needs, cycle, paper and reference must be tables");
  for (const auto& [key, other] : row.needs.items()) {
    MOEKIT_CHECK(other.is_string(), at, "needs.", key, " must be the name of a row; got ",
                 other.dump());
    check_row_name(study, other.get<std::string>(), concat(at, "needs.", key));
  }
  for (const auto& [key, values] : row.cycle.items()) {
    MOEKIT_CHECK(values.is_array() && !values.empty(), at, "cycle.", key, " must be a list");
  }
  for (const auto* known : {&row.paper, &row.reference}) {
    for (const auto& [key, value] : known->items()) {
      MOEKIT_CHECK(value.is_number(), at, "the value of ", key, " must be a number; got ",
                   value.dump());
    }
  }
}

void check_claim(const Study& study, const Claim& claim, const std::string& where) {
  const std::string at = concat(where, ": claim \"", claim.text, "\"");
  MOEKIT_CHECK(!claim.check.empty(), at, ": has no check");
  for (const auto& check : claim.check) {
    check_reference(study, check.left, at);
    if (!check.right.empty()) check_reference(study, check.right, at);
    MOEKIT_CHECK(check.op == "<" || check.op == "<=" || check.op == ">" || check.op == ">=", at,
                 ": op must be <, <=, > or >=; got \"", check.op, "\"");
  }
}

}  // namespace

Reference parse_reference(const std::string& text, const std::string& where) {
  const auto dot = text.rfind('.');
  MOEKIT_CHECK(dot != std::string::npos, where, ": \"", text, "\" is no row.figure");
  return {text.substr(0, dot), text.substr(dot + 1)};
}

std::string run_name(const std::string& row, int64_t seed) { return concat(row, "/seed", seed); }

Study read_study(const std::filesystem::path& file, const std::vector<Figure>& default_figures) {
  Study study;
  bind_config(read_toml(file), study);
  if (study.figure.empty()) study.figure = default_figures;
  const std::string where = file.string();
  for (const auto& figure : study.figure) check_figure(figure, where);
  for (const auto& row : study.row) check_row(study, row, where);
  for (const auto& claim : study.claim) check_claim(study, claim, where);
  return study;
}

}  // namespace moekit::study
