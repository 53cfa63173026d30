#include "moekit/study/verdicts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "moekit/report/page.h"

namespace moekit::study {
using report::short_number;
namespace {

constexpr double kChance = 0.025;  // that an interval lies on one given side of no effect

/// A side of a check: the row and its figure, or why they cannot be compared.
struct Side {
  const RowResult* row = nullptr;
  const Cell* cell = nullptr;
  std::string trouble;
};

Side find_side(const std::vector<RowResult>& rows, const std::string& reference,
               bool allow_missing) {
  const auto at = parse_reference(reference, "claim");
  const auto row = std::find_if(rows.begin(), rows.end(),
                                [&](const RowResult& known) { return known.name == at.row; });
  if (row == rows.end()) return {nullptr, nullptr, at.row + ": not among the rows that were run"};
  const Cell& cell = row->cells.at(at.figure);
  const std::string missing = row->what_is_missing();
  if (cell.ours.count == 0) {
    return {nullptr, nullptr,
            concat(reference, ": ", missing.empty() ? "no run has such a value" : missing)};
  }
  if (cell.missing() > 0 && !allow_missing) {
    return {
        nullptr, nullptr,
        concat(reference, ": ", cell.missing(), " of ", cell.values.size(), " seeds are missing",
               missing.empty() ? "" : " (" + missing + ")", "; --allow-missing judges the others")};
  }
  return {&*row, &cell, {}};
}

/// The values of both sides on the seeds that both have.
std::pair<std::vector<double>, std::vector<double>> paired(const Side& left, const Side& right) {
  std::pair<std::vector<double>, std::vector<double>> out;
  for (size_t i = 0; i < left.cell->values.size(); ++i) {
    if (std::isnan(left.cell->values[i])) continue;
    if (right.cell != nullptr) {
      if (i >= right.cell->values.size() || std::isnan(right.cell->values[i])) continue;
      out.second.push_back(right.cell->values[i]);
    }
    out.first.push_back(left.cell->values[i]);
  }
  return out;
}

std::string text_of(const Check& check) {
  std::string text = concat(check.left, " ", check.op, " ");
  if (check.right.empty()) return text + fmt::format("{:g}", check.offset);
  if (check.factor != 1) text += fmt::format("{:g} x ", check.factor);
  text += check.right;
  if (check.offset != 0) text += fmt::format(" {:+g}", check.offset);
  return text;
}

Verdict verdict_of(const CheckResult& result, bool or_equal) {
  if (result.effect.count < kLeastSeeds) return Verdict::kUndecided;
  // Turned so that "below zero" is what is claimed.
  const Interval& at = result.effect.interval;
  const double low = result.below ? at.low : -at.high;
  const double high = result.below ? at.high : -at.low;
  if (high < 0 || (or_equal && high == 0)) return Verdict::kHeld;
  if (low > 0) return Verdict::kContradicted;  // equal rows are on neither side
  return Verdict::kUndecided;
}

/// "effect -0.0123 [-0.0210, -0.0036], 5 seeds".
/// @param asked  seeds, of which some may have no value
std::string describe_effect(const CheckResult& result, size_t asked) {
  const Estimate& effect = result.effect;
  std::string text = fmt::format("effect {}", short_number(effect.value));
  if (std::isfinite(effect.interval.low) && std::isfinite(effect.interval.high)) {
    text += fmt::format(" [{}, {}]", short_number(effect.interval.low),
                        short_number(effect.interval.high));
  }
  text += fmt::format(", {} {}", effect.count, effect.count == 1 ? "seed" : "seeds");
  if (result.verdict != Verdict::kUndecided) return text;
  const double share = static_cast<double>(effect.count) / static_cast<double>(asked);
  const auto wanted = static_cast<size_t>(
      std::ceil(static_cast<double>(std::max(seeds_to_decide(effect), kLeastSeeds)) / share));
  if (effect.count < kLeastSeeds) return text + fmt::format("; a verdict takes {}", kLeastSeeds);
  if (!std::isfinite(effect.interval.low)) return text + "; a median's interval takes 6";
  if (seeds_to_decide(effect) == 0) return text + "; no number of seeds would decide";
  return text + fmt::format("; about {} would decide", wanted);
}

/// A row that was searched longer than the other has an advantage.
std::string unequal_trials(const Side& left, const Side& right) {
  if (right.row == nullptr ||
      (left.row->trials == right.row->trials && left.row->trial_runs == right.row->trial_runs)) {
    return {};
  }
  return fmt::format("; UNEQUAL TUNING: {} trials of {} runs against {} of {}", left.row->trials,
                     left.row->trial_runs, right.row->trials, right.row->trial_runs);
}

CheckResult judge_check(const Check& check, const std::vector<Figure>& figures,
                        const std::vector<RowResult>& rows, bool allow_missing) {
  CheckResult result;
  result.text = text_of(check);
  result.below = check.op.front() == '<';
  const Side left = find_side(rows, check.left, allow_missing);
  const Side right = check.right.empty() ? Side{} : find_side(rows, check.right, allow_missing);
  if (!left.trouble.empty() || !right.trouble.empty()) {
    result.detail = left.trouble.empty() ? right.trouble : left.trouble;
    return result;
  }
  const auto [ours, theirs] = paired(left, right);
  if (ours.empty()) {
    result.detail = "the rows have no seed in common";
    return result;
  }
  const Figure& figure = figure_of(figures, parse_reference(check.left, "claim").figure);
  result.effect = estimate_effect(ours, theirs, check.factor, check.offset, figure.statistic);
  result.verdict = verdict_of(result, check.op.size() == 2);
  result.detail = describe_effect(result, left.cell->values.size()) + unequal_trials(left, right);
  return result;
}

/// What all checks say together: the worst of them.
Verdict all_of(const std::vector<CheckResult>& checks) {
  const auto any = [&](Verdict verdict) {
    return std::any_of(checks.begin(), checks.end(),
                       [&](const CheckResult& check) { return check.verdict == verdict; });
  };
  for (const auto verdict : {Verdict::kNotTested, Verdict::kContradicted, Verdict::kUndecided}) {
    if (any(verdict)) return verdict;
  }
  return Verdict::kHeld;
}

}  // namespace

ClaimResult judge(const Claim& claim, const std::vector<Figure>& figures,
                  const std::vector<RowResult>& rows, bool allow_missing) {
  ClaimResult result{claim.text, claim.source, Verdict::kNotTested, {}, {}};
  for (const auto& check : claim.check) {
    result.checks.push_back(judge_check(check, figures, rows, allow_missing));
    const CheckResult& last = result.checks.back();
    if (!result.detail.empty()) result.detail += "; ";
    result.detail += concat(last.text, ": ", last.detail);
  }
  result.verdict = all_of(result.checks);
  return result;
}

Tally tally(const std::vector<ClaimResult>& claims) {
  Tally out;
  for (const auto& claim : claims) {
    switch (claim.verdict) {
      case Verdict::kHeld:
        ++out.held;
        break;
      case Verdict::kContradicted:
        ++out.contradicted;
        break;
      case Verdict::kUndecided:
        ++out.undecided;
        break;
      case Verdict::kNotTested:
        ++out.not_tested;
        continue;
    }
    out.checks += claim.checks.size();
  }
  return out;
}

std::string describe(const Tally& tally, size_t looks) {
  const auto plural = [](size_t count, const char* what) {
    return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
  };
  std::string text =
      fmt::format("{} tested in {}: {} held, {} contradicted, {} undecided; {} not tested.",
                  plural(tally.tested(), "claim"), plural(tally.checks, "comparison"), tally.held,
                  tally.contradicted, tally.undecided, tally.not_tested);
  if (tally.checks == 0) return text;
  const double expected = kChance * static_cast<double>(tally.checks * std::max<size_t>(looks, 1));
  text += fmt::format(
      " Were there no effect at all, {}{:.2g} of the comparisons would come out as claimed by "
      "chance, and as many against it{}.",
      looks > 1 ? "up to " : "", expected,
      looks > 1
          ? fmt::format(" (their intervals were looked at {} times while seeds were added)", looks)
          : "");
  return text;
}

std::string describe_standings(const std::vector<RowResult>& rows) {
  size_t count = 0;
  size_t against = 0;
  std::map<Standing, size_t> of;
  for (const auto& row : rows) {
    for (const auto& [name, cell] : row.cells) {
      if (cell.standing == Standing::kNone) continue;
      ++count;
      ++of[cell.standing];
      if (cell.against) ++against;
    }
  }
  if (count == 0) return {};
  std::string text = fmt::format(
      "{} figures have a value of the paper: {} reproduced (it lies in our 95 % interval, or "
      "within "
      "the margin that is stated), {} better, {} worse",
      count, of[Standing::kReproduced], of[Standing::kBetter], of[Standing::kWorse]);
  if (of[Standing::kDiffers] > 0) text += fmt::format(", {} differ", of[Standing::kDiffers]);
  if (of[Standing::kUndecided] > 0) {
    text +=
        fmt::format(", {} undecided (fewer than {} seeds)", of[Standing::kUndecided], kLeastSeeds);
  }
  return text + fmt::format("; {} of them speak against what the paper shows by the row.", against);
}

}  // namespace moekit::study
