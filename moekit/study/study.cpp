#include "moekit/study/study.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/files.h"

namespace moekit::study {
namespace fs = std::filesystem;
namespace {

struct Reference {
  std::string row;
  std::string figure;
};

/// "mnist/original.test_error" -> row and figure.
Reference parse_reference(const std::string& text, const std::string& where) {
  const auto dot = text.rfind('.');
  MOEKIT_CHECK(dot != std::string::npos, where, ": \"", text, "\" is no row.figure");
  return {text.substr(0, dot), text.substr(dot + 1)};
}

void check_reference(const Study& study, const std::string& text, const std::string& where) {
  const auto reference = parse_reference(text, where);
  MOEKIT_CHECK(std::any_of(study.row.begin(), study.row.end(),
                           [&](const Row& row) { return row.name == reference.row; }),
               where, ": there is no row \"", reference.row, "\"");
  MOEKIT_CHECK(std::any_of(study.figure.begin(), study.figure.end(),
                           [&](const Figure& f) { return f.name == reference.figure; }),
               where, ": there is no figure \"", reference.figure, "\"");
}

bool holds(double left, const std::string& op, double right) {
  if (op == "<") return left < right;
  if (op == "<=") return left <= right;
  if (op == ">") return left > right;
  return left >= right;
}

const Cell* find_cell(const std::vector<RowResult>& rows, const std::string& reference,
                      std::string& reason) {
  const auto at = parse_reference(reference, "claim");
  for (const auto& row : rows) {
    if (row.name != at.row) continue;
    const auto found = row.cells.find(at.figure);
    if (found != row.cells.end() && found->second.ours.count > 0) return &found->second;
    reason = concat(row.name, ": ", row.missing.empty() ? "not run" : row.missing);
    return nullptr;
  }
  reason = at.row + ": not among the rows that were run";
  return nullptr;
}

const std::vector<Figure> kClassifierFigures = {
    {"train_error", "train error", "/train/error"},
    {"train_loss", "train loss", "/train/loss"},
    {"test_error", "test error", "/test/error"},
    {"information", "I(E;Y)", "/test/layers/mixture/mutual_information"},
    {"sample_entropy", "H_s", "/test/layers/mixture/sample_entropy"},
    {"usage_entropy", "H_u", "/test/layers/mixture/usage_entropy"},
};

/// The value claims look at.
double value_of(const Cell& cell, const std::vector<Figure>& figures, const std::string& name) {
  for (const auto& figure : figures) {
    if (figure.name == name && figure.statistic == "median") return cell.ours.median;
  }
  return cell.ours.mean;
}

/// Within two standard errors, or better: how a figure stands against the paper's.
std::string verdict_of(const Summary& ours, double paper, Better better) {
  const double gap = ours.mean - paper;
  if (ours.count >= 2 && std::abs(gap) <= 2 * ours.standard_error()) {
    return "reproduced: within 2 s.e.";
  }
  if ((better == Better::kHigher && gap > 0) || (better == Better::kLower && gap < 0)) {
    return "reproduced: ours is better";
  }
  return "not reproduced";
}

std::string number(double value) {
  const bool tiny = value != 0 && std::abs(value) < 5e-4;
  return tiny ? fmt::format("{:.1e}", value) : fmt::format("{:.4f}", value);
}

/// Rows that share a table: the part of the name before the slash.
std::string group_of(const std::string& name) { return name.substr(0, name.find('/')); }

template <typename Print>
void for_groups(const std::vector<RowResult>& rows, Print&& print) {
  for (size_t begin = 0; begin < rows.size();) {
    size_t end = begin;
    while (end < rows.size() && group_of(rows[end].name) == group_of(rows[begin].name)) ++end;
    print(begin, end);
    begin = end;
  }
}

std::string ours_text(const Summary& s) {
  return fmt::format("{} ± {} ({})", number(s.mean), number(s.std_dev), number(s.median));
}

std::string reference_text(const std::optional<double>& value) {
  return value ? number(*value) : "-";
}

/// "left 0.0425, right 0.0443: difference -0.0018, standard error 0.0030".
std::string describe(const Check& check, double value, const Summary& left, const Summary* right,
                     double bound) {
  std::string text =
      fmt::format("{} = {} {} {}", check.left, number(value), check.op, number(bound));
  if (right != nullptr) {
    const double error = std::hypot(left.standard_error(), check.factor * right->standard_error());
    text += fmt::format(" = ");
    if (check.factor != 1) text += fmt::format("{:g} x ", check.factor);
    text += check.right;
    if (check.offset != 0) text += fmt::format(" {:+g}", check.offset);
    text +=
        fmt::format(" (difference {:+.4f}, its standard error {})", value - bound, number(error));
  }
  return text;
}

/// One line a figure set: rows without anything to compare with fit into one table.
std::string compact_table(const std::vector<Figure>& figures, const std::vector<RowResult>& rows,
                          size_t begin, size_t end) {
  std::string out = fmt::format("\n  {:40}", "");
  for (const auto& figure : figures) out += fmt::format(" {:>12}", figure.title);
  out += "   n\n";
  for (size_t r = begin; r < end; ++r) {
    out += fmt::format("  {:40}", rows[r].label);
    size_t n = 0;
    for (const auto& figure : figures) {
      const auto& ours = rows[r].cells.at(figure.name).ours;
      n = std::max(n, ours.count);
      out += fmt::format(" {:>12}", ours.count > 0 ? number(ours.mean) : "");
    }
    out += fmt::format(" {:>3}{}\n", n, rows[r].missing.empty() ? "" : " " + rows[r].missing);
  }
  return out;
}

bool has_comparison(const std::vector<RowResult>& rows, size_t begin, size_t end) {
  for (size_t r = begin; r < end; ++r) {
    for (const auto& [name, cell] : rows[r].cells) {
      if (cell.paper || cell.reference) return true;
    }
  }
  return false;
}

/// One block a figure: paper, reference, and our mean, deviation, median and count.
std::string comparison_blocks(const std::vector<Figure>& figures,
                              const std::vector<RowResult>& rows, size_t begin, size_t end) {
  std::string out;
  for (const auto& figure : figures) {
    std::string block;
    for (size_t r = begin; r < end; ++r) {
      const Cell& cell = rows[r].cells.at(figure.name);
      if (cell.ours.count == 0) {
        if (rows[r].runs.empty() && figure.name == figures.front().name) {
          block += fmt::format("  {:44} not run{}\n", rows[r].label,
                               rows[r].missing.empty() ? "" : ": " + rows[r].missing);
        }
        continue;
      }
      block += fmt::format("  {:44} {:>8} {:>9}   {:>8} {:>8} {:>8} {:>3}  {}\n", rows[r].label,
                           reference_text(cell.paper), reference_text(cell.reference),
                           number(cell.ours.mean), number(cell.ours.std_dev),
                           number(cell.ours.median), cell.ours.count, cell.verdict);
    }
    if (block.empty()) continue;
    out += fmt::format("\n{}: {}\n  {:44} {:>8} {:>9}   {:>8} {:>8} {:>8} {:>3}\n",
                       group_of(rows[begin].name), figure.title, "", "paper", "reference", "mean",
                       "std", "median", "n") +
           block;
  }
  return out;
}

}  // namespace

Study read_study(const fs::path& file) {
  Study study;
  bind_config(read_toml(file), study);
  if (study.figure.empty()) study.figure = kClassifierFigures;
  const std::string where = file.string();
  for (const auto& figure : study.figure) {
    MOEKIT_CHECK(!figure.name.empty() && figure.pointer.rfind('/', 0) == 0, where,
                 ": a figure wants a name and a pointer \"/...\"; got \"", figure.name, "\", \"",
                 figure.pointer, "\"");
    MOEKIT_CHECK(figure.statistic == "mean" || figure.statistic == "median", where, ": figure ",
                 figure.name, ": statistic must be mean or median; got \"", figure.statistic, "\"");
  }
  for (const auto& row : study.row) {
    MOEKIT_CHECK(!row.name.empty() && !row.recipe.empty(), where,
                 ": a row lacks its name or recipe");
    MOEKIT_CHECK(row.tier == "quick" || row.tier == "full", where, ": row ", row.name,
                 ": tier must be quick or full; got \"", row.tier, "\"");
    for (const auto& [key, other] : row.needs.items()) {
      check_reference(study, other.get<std::string>() + "." + study.figure.front().name,
                      concat(where, ": row ", row.name, ": needs.", key));
    }
    for (const auto& [key, values] : row.cycle.items()) {
      MOEKIT_CHECK(values.is_array() && !values.empty(), where, ": row ", row.name, ": cycle.", key,
                   " must be a list");
    }
  }
  for (const auto& claim : study.claim) {
    const std::string at = concat(where, ": claim \"", claim.text, "\"");
    MOEKIT_CHECK(!claim.check.empty(), at, ": has no check");
    for (const auto& check : claim.check) {
      check_reference(study, check.left, at);
      if (!check.right.empty()) check_reference(study, check.right, at);
      MOEKIT_CHECK(check.op == "<" || check.op == "<=" || check.op == ">" || check.op == ">=", at,
                   ": op must be <, <=, > or >=; got \"", check.op, "\"");
    }
  }
  return study;
}

RowResult gather_row(const Row& row, const std::vector<Figure>& figures, const fs::path& folder,
                     int64_t seeds) {
  RowResult result;
  result.name = row.name;
  result.label = row.label.empty() ? row.name : row.label;
  std::map<std::string, std::vector<double>> values;
  if (row.seeds > 0) seeds = std::min(seeds, row.seeds);
  for (int64_t seed = 1; seed <= seeds; ++seed) {
    const fs::path run = folder / row.name / fmt::format("seed{}", seed);
    if (!fs::exists(run / "summary.json")) continue;
    const Json summary = Json::parse(read_file(run / "summary.json", 1 << 24), nullptr, false);
    MOEKIT_CHECK_FORMAT(!summary.is_discarded(), run.string(), "/summary.json: is no JSON");
    result.runs.push_back(run.string());
    for (const auto& figure : figures) {
      const Json::json_pointer pointer(figure.pointer);
      if (summary.contains(pointer) && summary[pointer].is_number()) {
        values[figure.name].push_back(summary[pointer].get<double>());
      }
    }
  }
  const auto known = [](const Json& table, const std::string& name) -> std::optional<double> {
    return table.contains(name) ? std::optional(table[name].get<double>()) : std::nullopt;
  };
  for (const auto& figure : figures) {
    Cell cell{summarize(values[figure.name]),
              known(row.paper, figure.name),
              known(row.reference, figure.name),
              {}};
    if (figure.better != Better::kNone && cell.paper && cell.ours.count > 0) {
      cell.verdict = verdict_of(cell.ours, *cell.paper, figure.better);
    }
    result.cells[figure.name] = std::move(cell);
  }
  return result;
}

ClaimResult judge(const Claim& claim, const std::vector<Figure>& figures,
                  const std::vector<RowResult>& rows) {
  ClaimResult result{claim.text, claim.source, Verdict::kHeld, {}};
  for (const auto& check : claim.check) {
    std::string reason;
    const Cell* left = find_cell(rows, check.left, reason);
    const Cell* right =
        check.right.empty() || left == nullptr ? nullptr : find_cell(rows, check.right, reason);
    if (left == nullptr || (!check.right.empty() && right == nullptr)) {
      return {claim.text, claim.source, Verdict::kNotTested, reason};
    }
    const auto of = [&](const Cell& cell, const std::string& reference) {
      return value_of(cell, figures, parse_reference(reference, "claim").figure);
    };
    const double ours = of(*left, check.left);
    const double bound =
        (right != nullptr ? check.factor * of(*right, check.right) : 0.0) + check.offset;
    if (!holds(ours, check.op, bound)) result.verdict = Verdict::kNotHeld;
    if (!result.detail.empty()) result.detail += "; ";
    result.detail +=
        describe(check, ours, left->ours, right != nullptr ? &right->ours : nullptr, bound);
  }
  return result;
}

std::string to_text(const Study& study, const std::vector<RowResult>& rows,
                    const std::vector<ClaimResult>& claims) {
  std::string out = study.title + "\n" + study.source + "\n";
  if (!study.reference.empty()) out += "reference: " + study.reference + "\n";
  for_groups(rows, [&](size_t begin, size_t end) {
    out += has_comparison(rows, begin, end) ? comparison_blocks(study.figure, rows, begin, end)
                                            : compact_table(study.figure, rows, begin, end);
  });
  if (!claims.empty()) out += "\nclaims\n";
  for (const auto& claim : claims) {
    out += fmt::format("  [{}] {} ({})\n      {}\n", enum_name(claim.verdict), claim.text,
                       claim.source, claim.detail);
  }
  return out;
}

std::string to_markdown(const Study& study, const std::vector<RowResult>& rows,
                        const std::vector<ClaimResult>& claims, const std::string& command) {
  std::string out =
      fmt::format("# {}\n\n{}\n\nCommand: `{}`\n", study.title, study.source, command);
  for (const auto& note : study.notes) out += fmt::format("- {}\n", note);
  out +=
      "\nOurs: mean ± standard deviation (median) over n seeds. Paper: the printed value. "
      "Reference: " +
      study.reference + "\n";
  for_groups(rows, [&](size_t begin, size_t end) {
    out += fmt::format("\n## {}\n", group_of(rows[begin].name));
    for (const auto& figure : study.figure) {
      std::string block;
      const bool judged = figure.better != Better::kNone;
      for (size_t r = begin; r < end; ++r) {
        const Cell& cell = rows[r].cells.at(figure.name);
        if (cell.ours.count == 0) continue;
        block +=
            fmt::format("| {} | {} | {} | {} | {} |{}\n", rows[r].label, reference_text(cell.paper),
                        reference_text(cell.reference), ours_text(cell.ours), cell.ours.count,
                        judged ? fmt::format(" {} |", cell.verdict) : "");
      }
      if (!block.empty()) {
        out += fmt::format(
            "\n### {}\n\n| row | paper | reference | ours | n |{}\n|---|---|---|---|---|{}\n{}",
            figure.title, judged ? " verdict |" : "", judged ? "---|" : "", block);
      }
    }
    for (size_t r = begin; r < end; ++r) {
      if (rows[r].runs.empty()) {
        out += fmt::format("\nNot run: {}{}\n", rows[r].label,
                           rows[r].missing.empty() ? "" : ": " + rows[r].missing);
      }
    }
  });
  out += "\n## Claims\n\n| verdict | claim | source | numbers |\n|---|---|---|---|\n";
  for (const auto& claim : claims) {
    out += fmt::format("| **{}** | {} | {} | {} |\n", enum_name(claim.verdict), claim.text,
                       claim.source, claim.detail);
  }
  return out;
}

Json to_json(const Study& study, const std::vector<RowResult>& rows,
             const std::vector<ClaimResult>& claims) {
  Json out = {{"title", study.title}, {"source", study.source}};
  out["rows"] = Json::array();
  for (const auto& row : rows) {
    Json item = {{"name", row.name}, {"label", row.label}, {"runs", row.runs}};
    if (!row.missing.empty()) item["missing"] = row.missing;
    for (const auto& [name, cell] : row.cells) {
      if (cell.ours.count == 0) continue;
      Json& figure = item["figures"][name];
      figure = {{"n", cell.ours.count},       {"mean", cell.ours.mean}, {"std", cell.ours.std_dev},
                {"median", cell.ours.median}, {"min", cell.ours.min},   {"max", cell.ours.max}};
      if (cell.paper) figure["paper"] = *cell.paper;
      if (cell.reference) figure["reference"] = *cell.reference;
      if (!cell.verdict.empty()) figure["verdict"] = cell.verdict;
    }
    out["rows"].push_back(std::move(item));
  }
  out["claims"] = Json::array();
  for (const auto& claim : claims) {
    out["claims"].push_back({{"claim", claim.text},
                             {"source", claim.source},
                             {"verdict", std::string(enum_name(claim.verdict))},
                             {"numbers", claim.detail}});
  }
  return out;
}

}  // namespace moekit::study
