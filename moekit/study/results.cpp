#include "moekit/study/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/schema.h"
#include "moekit/report/page.h"

namespace moekit::study {
namespace fs = std::filesystem;
using report::short_number;
namespace {

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

/// "left 0.0425, right 0.0443: difference -0.0018, standard error 0.0030".
std::string describe(const Check& check, double value, const Summary& left, const Summary* right,
                     double bound) {
  std::string text =
      fmt::format("{} = {} {} {}", check.left, short_number(value), check.op, short_number(bound));
  if (right != nullptr) {
    const double error = std::hypot(left.standard_error(), check.factor * right->standard_error());
    text += " = ";
    if (check.factor != 1) text += fmt::format("{:g} x ", check.factor);
    text += check.right;
    if (check.offset != 0) text += fmt::format(" {:+g}", check.offset);
    text += fmt::format(" (difference {:+.4f}, its standard error {})", value - bound,
                        short_number(error));
  }
  return text;
}

}  // namespace

RowResult gather_row(const Row& row, const std::vector<Figure>& figures, const fs::path& folder,
                     int64_t seeds) {
  RowResult result;
  result.name = row.name;
  result.label = row.label.empty() ? row.name : row.label;
  std::map<std::string, std::vector<double>> values;
  if (row.seeds > 0) seeds = std::min(seeds, row.seeds);
  for (int64_t seed = 1; seed <= seeds; ++seed) {
    const fs::path run = folder / run_name(row.name, seed);
    if (!fs::exists(run / "summary.json")) continue;
    const Json summary = read_json(run / "summary.json");
    Schema::map(Schema::any()).check(summary, (run / "summary.json").string());
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

std::vector<RowResult> gather_rows(const std::vector<Row>& rows, const std::vector<Figure>& figures,
                                   const fs::path& folder, int64_t seeds,
                                   const std::map<std::string, std::string>& missing,
                                   const Failures& failures) {
  std::vector<RowResult> results;
  for (const auto& row : rows) {
    if (row.auxiliary) continue;
    results.push_back(gather_row(row, figures, folder, seeds));
    if (const auto found = missing.find(row.name); found != missing.end()) {
      results.back().missing = found->second;
    }
    for (int64_t seed = 1; seed <= seeds; ++seed) {
      const auto found = failures.find(run_name(row.name, seed));
      if (found != failures.end()) results.back().missing = found->second;
    }
  }
  return results;
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

}  // namespace moekit::study
