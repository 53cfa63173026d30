#include "moekit/study/study.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <unordered_map>
#include <unordered_set>

namespace moekit::study {
namespace {

/// Names that a study gives, for look-ups in constant time.
struct Names {
  std::unordered_map<std::string, std::string> rows;  ///< row -> its tier
  std::unordered_set<std::string> figures;
};

/// @param tier  of the claim, whose table has the rows of that tier alone
void check_reference(const Names& names, const std::string& text, const std::string& tier,
                     const std::string& where) {
  const auto reference = parse_reference(text, where);
  const auto row = names.rows.find(reference.row);
  MOEKIT_CHECK(row != names.rows.end(), where, ": there is no row \"", reference.row, "\"");
  MOEKIT_CHECK(row->second == tier, where, ": is of tier ", tier, ", its row ", reference.row,
               " of tier ", row->second, ": they never stand in one table");
  MOEKIT_CHECK(names.figures.count(reference.figure) == 1, where, ": there is no figure \"",
               reference.figure, "\"");
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
}

void check_tier(const std::string& at, const std::string& tier) {
  MOEKIT_CHECK(tier == "quick" || tier == "full", at, "tier must be quick or full; got \"", tier,
               "\"");
}

void check_seeds(const std::string& where, const char* key, int64_t seeds, int64_t least) {
  MOEKIT_CHECK(seeds >= least && seeds <= kMaxSeeds, where, ": ", key, " must be ", least, "..",
               kMaxSeeds, "; got ", seeds);
}

/// @param names  of the rows before this one
void check_row(const Names& names, const Row& row, const std::string& where) {
  MOEKIT_CHECK(!row.name.empty() && !row.recipe.empty(), where, ": a row lacks its name or recipe");
  MOEKIT_CHECK(is_row_name(row.name), where, ": row name ", in_quotes(row.name),
               " is none that a folder below that of the runs can have");
  const std::string at = concat(where, ": row ", row.name, ": ");
  MOEKIT_CHECK(names.rows.count(row.name) == 0, at, "there is another row of this name");
  check_tier(at, row.tier);
  check_seeds(concat(where, ": row ", row.name), "seeds", row.seeds, 0);
  MOEKIT_CHECK(row.needs.is_object() && row.cycle.is_object() && row.paper.is_object() &&
                   row.reference.is_object(),
               at, "needs, cycle, paper and reference must be tables");
  for (const auto& [key, other] : row.needs.items()) {
    MOEKIT_CHECK(other.is_string(), at, "needs.", key, " must be the name of a row; got ",
                 dump_text(other));
    const auto name = other.get<std::string>();
    MOEKIT_CHECK(names.rows.count(name) == 1, at, "needs.", key, ": there is no row \"", name,
                 "\" before this one");
  }
  for (const auto& [key, values] : row.cycle.items()) {
    MOEKIT_CHECK(values.is_array() && !values.empty(), at, "cycle.", key, " must be a list");
  }
  for (const auto* known : {&row.paper, &row.reference}) {
    for (const auto& [key, value] : known->items()) {
      MOEKIT_CHECK(names.figures.count(key) == 1, at, "there is no figure ", in_quotes(key));
      MOEKIT_CHECK(value.is_number() && std::isfinite(value.get<double>()), at, "the value of ",
                   key, " must be a number; got ", dump_text(value));
    }
  }
}

void check_claim(const Names& names, const std::vector<Figure>& figures, const Claim& claim,
                 const std::string& where) {
  const std::string at = concat(where, ": claim \"", claim.text, "\"");
  check_tier(at + ": ", claim.tier);
  MOEKIT_CHECK(!claim.check.empty(), at, ": has no check");
  for (const auto& check : claim.check) {
    check_reference(names, check.left, claim.tier, at);
    if (!check.right.empty()) {
      check_reference(names, check.right, claim.tier, at);
      const auto counts = [&](const std::string& side) {
        const auto& figure = figure_of(figures, parse_reference(side, at).figure);
        return figure.statistic == Statistic::kProportion;
      };
      MOEKIT_CHECK(counts(check.left) == counts(check.right), at, ": of ", check.left, " and ",
                   check.right, " one is a proportion, the other is none");
    }
    MOEKIT_CHECK(check.op == "<" || check.op == "<=" || check.op == ">" || check.op == ">=", at,
                 ": op must be <, <=, > or >=; got \"", check.op, "\"");
  }
}

void check_tune(const Names& names, const Study& study, const Tune& tune,
                std::unordered_set<std::string>& tuned, const std::string& where) {
  const std::string at = concat(where, ": tune: ");
  MOEKIT_CHECK(!tune.rows.empty(), at, "names no row");
  MOEKIT_CHECK(tune.grid.is_object() && !tune.grid.empty(), at,
               "grid must be a table of at least one key");
  int64_t points = 1;
  for (const auto& [key, values] : tune.grid.items()) {
    MOEKIT_CHECK(values.is_array() && !values.empty(), at, "grid.", key, " must be a list");
    const auto count = static_cast<int64_t>(values.size());
    MOEKIT_CHECK(points <= kMaxTrials / count, at, "the grid has more than ", kMaxTrials,
                 " points");
    points *= count;
  }
  check_seeds(concat(where, ": tune"), "seeds", tune.seeds, 1);
  MOEKIT_CHECK(names.figures.count(tune.figure) == 1, at, "there is no figure ",
               in_quotes(tune.figure));
  MOEKIT_CHECK(figure_of(study.figure, tune.figure).better != Better::kNone, at, "figure ",
               tune.figure, " has no direction (better = \"lower\" or \"higher\") to choose by");
  // A setting that the test set chose makes the table's test figures too good.
  const std::string& pointer = figure_of(study.figure, tune.figure).pointer;
  MOEKIT_CHECK(pointer.rfind("/validation/", 0) == 0, at, "figure ", tune.figure, " is \"", pointer,
               "\"; a setting is chosen by validation data: \"/validation/...\"");
  for (const auto& name : tune.rows) {
    const auto row = std::find_if(study.row.begin(), study.row.end(),
                                  [&](const Row& known) { return known.name == name; });
    MOEKIT_CHECK(row != study.row.end(), at, "there is no row ", in_quotes(name));
    MOEKIT_CHECK(row->needs.empty(), at, "row ", name, " needs another row; it cannot be tuned");
    MOEKIT_CHECK(tuned.insert(name).second, at, "row ", name, " is tuned twice");
  }
}

/// @param tree  where it was written, line by line
void check_study(const Study& study, const ConfigTree& tree) {
  const auto place = [&](const char* list, size_t i) {
    return origin_of(tree, concat(list, "[", i, "]"));
  };
  check_seeds(origin_of(tree, "quick_seeds"), "quick_seeds", study.quick_seeds, 1);
  check_seeds(origin_of(tree, "full_seeds"), "full_seeds", study.full_seeds, 1);
  Names names;
  for (size_t i = 0; i < study.figure.size(); ++i) {
    const Figure& figure = study.figure[i];
    check_figure(figure, place("figure", i));
    MOEKIT_CHECK(names.figures.insert(figure.name).second, place("figure", i), ": figure ",
                 figure.name, " stands there twice");
  }
  for (size_t i = 0; i < study.row.size(); ++i) {
    check_row(names, study.row[i], place("row", i));
    names.rows.emplace(study.row[i].name, study.row[i].tier);
  }
  std::unordered_set<std::string> tuned;
  for (size_t i = 0; i < study.tune.size(); ++i) {
    check_tune(names, study, study.tune[i], tuned, place("tune", i));
  }
  for (size_t i = 0; i < study.claim.size(); ++i) {
    check_claim(names, study.figure, study.claim[i], place("claim", i));
  }
}

}  // namespace

bool is_row_name(const std::string& name) {
  static const std::regex kSeed("seed[0-9]+");
  bool first = true;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool plain = std::none_of(part.begin(), part.end(), [](unsigned char c) {
      return c < 0x20 || c == 0x7f || c == '\\';
    });
    // 255: the system's limit, and what keeps the expression's recursion short.
    if (!plain || part.empty() || part.size() > 255 || part == "." || part == ".." ||
        (first && (part == "logs" || part == "tune" || part == "report.html")) ||
        std::regex_match(part, kSeed)) {
      return false;
    }
    first = false;
    begin = end + 1;
  }
  return name.size() <= 1024;
}

Reference parse_reference(const std::string& text, const std::string& where) {
  const auto dot = text.rfind('.');
  MOEKIT_CHECK(dot != std::string::npos, where, ": \"", text, "\" is no row.figure");
  return {text.substr(0, dot), text.substr(dot + 1)};
}

const Figure& figure_of(const std::vector<Figure>& figures, const std::string& name) {
  const auto found = std::find_if(figures.begin(), figures.end(),
                                  [&](const Figure& figure) { return figure.name == name; });
  MOEKIT_CHECK(found != figures.end(), "there is no figure ", in_quotes(name));
  return *found;
}

const Tune* tune_of(const Study& study, const std::string& row) {
  for (const auto& tune : study.tune) {
    if (std::find(tune.rows.begin(), tune.rows.end(), row) != tune.rows.end()) return &tune;
  }
  return nullptr;
}

std::string run_name(const std::string& row, int64_t seed) { return concat(row, "/seed", seed); }

Study read_study(const std::filesystem::path& file, const std::vector<Figure>& default_figures) {
  return parse_study(read_toml(file), default_figures);
}

Study parse_study(const ConfigTree& tree, const std::vector<Figure>& default_figures) {
  Study study;
  bind_config(tree, study);
  if (study.figure.empty()) study.figure = default_figures;
  check_study(study, tree);
  return study;
}

}  // namespace moekit::study
