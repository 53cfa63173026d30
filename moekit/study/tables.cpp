#include "moekit/study/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace moekit::study {
using report::short_number;
namespace {

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

/// "[0.0931, 0.0953]", or nothing where one seed cannot tell.
std::string interval_text(const Interval& interval) {
  if (!std::isfinite(interval.low) || !std::isfinite(interval.high)) return {};
  return fmt::format("[{}, {}]", short_number(interval.low), short_number(interval.high));
}

/// The value that a figure's statistic tells, and what it is where it is not the mean.
std::string value_text(const Cell& cell, const Figure& figure) {
  if (cell.ours.count == 0) return {};
  const std::string value = short_number(cell.estimate.value);
  return figure.statistic == Statistic::kMedian ? value + " (median)" : value;
}

/// The same with its spread, which a share of seeds has none of.
std::string spread_text(const Cell& cell, const Figure& figure) {
  const std::string text = value_text(cell, figure);
  if (cell.ours.count < 2 || figure.statistic == Statistic::kProportion) return text;
  return text + " ± " + short_number(cell.ours.std_dev);
}

std::string ours_text(const Cell& cell, const Figure& figure) {
  const std::string text = spread_text(cell, figure);
  const std::string interval = interval_text(cell.estimate.interval);
  return interval.empty() ? text : text + " " + interval;
}

/// "5", or "4 of 5" where some are missing or do not tell it.
std::string count_text(const Cell& cell) {
  return cell.ours.count == cell.values.size()
             ? std::to_string(cell.ours.count)
             : fmt::format("{} of {}", cell.ours.count, cell.values.size());
}

std::string reference_text(const std::optional<double>& value) {
  return value ? short_number(*value) : "-";
}

std::string standing_text(const Cell& cell) {
  std::string text(enum_name(cell.standing));
  if (cell.against) text += " (against the paper's point)";
  return text;
}

/// "mnist: test error (data: mnist)"; the figure's margin, where it has one.
std::string block_title(const Figure& figure, const std::vector<RowResult>& rows, size_t begin,
                        size_t end) {
  std::set<std::string> data;
  for (size_t r = begin; r < end; ++r) {
    const bool shown = rows[r].cells.at(figure.name).ours.count > 0;
    if (shown && !rows[r].runs.data.empty()) data.insert(rows[r].runs.data);
  }
  std::string names;
  for (const auto& name : data) names += (names.empty() ? "" : ", ") + name;
  std::string title = figure.title;
  if (!names.empty()) title += fmt::format(" (data: {})", names);
  if (figure.margin > 0) title += fmt::format("; reproduced within {:g}", figure.margin);
  return title;
}

/// The figures that some of these rows have.
std::vector<const Figure*> told_figures(const std::vector<Figure>& figures,
                                        const std::vector<RowResult>& rows, size_t begin,
                                        size_t end) {
  std::vector<const Figure*> told;
  for (const auto& figure : figures) {
    bool any = false;
    for (size_t r = begin; r < end; ++r) {
      any = any || rows[r].cells.at(figure.name).ours.count > 0;
    }
    if (any) told.push_back(&figure);
  }
  return told;
}

/// One line a row: rows without anything to compare with fit into one table, of the figures that
/// some of them have.
std::string compact_table(const std::vector<Figure>& figures, const std::vector<RowResult>& rows,
                          size_t begin, size_t end) {
  const auto shown = told_figures(figures, rows, begin, end);
  const auto width = [](const Figure* figure) { return std::max<size_t>(figure->title.size(), 9); };
  std::string out = fmt::format("\n  {:40}", "");
  for (const auto* figure : shown) out += fmt::format("  {:>{}}", figure->title, width(figure));
  out += fmt::format(" {:>7}\n", "n");
  for (size_t r = begin; r < end; ++r) {
    out += fmt::format("  {:40}", rows[r].label);
    std::string n = "0";
    size_t least = rows[r].runs.seeds.size() + 1;
    for (const auto* figure : shown) {
      const Cell& cell = rows[r].cells.at(figure->name);
      // Of the figure that fewest seeds tell.
      if (cell.applies && cell.ours.count < least) {
        least = cell.ours.count;
        n = count_text(cell);
      }
      out += fmt::format("  {:>{}}", cell.ours.count > 0 ? short_number(cell.estimate.value) : "",
                         width(figure));
    }
    const std::string missing = rows[r].what_is_missing();
    out += fmt::format(" {:>7}{}\n", n, missing.empty() ? "" : " " + missing);
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

/// One block a figure: paper, reference, our value with its interval and count.
std::string comparison_blocks(const std::vector<Figure>& figures,
                              const std::vector<RowResult>& rows, size_t begin, size_t end) {
  std::string out;
  for (const auto& figure : figures) {
    std::string block;
    for (size_t r = begin; r < end; ++r) {
      const Cell& cell = rows[r].cells.at(figure.name);
      if (!cell.applies) continue;
      block += fmt::format("  {:44} {:>8} {:>9}   {:>17} {:>20} {:>7}  {}\n", rows[r].label,
                           reference_text(cell.paper), reference_text(cell.reference),
                           value_text(cell, figure), interval_text(cell.estimate.interval),
                           count_text(cell), standing_text(cell));
    }
    if (block.empty()) continue;
    out += fmt::format("\n{}: {}\n  {:44} {:>8} {:>9}   {:>17} {:>20} {:>7}\n",
                       group_of(rows[begin].name), block_title(figure, rows, begin, end), "",
                       "paper", "reference", "ours", "95 % interval", "n") +
           block;
  }
  for (size_t r = begin; r < end; ++r) {
    const std::string missing = rows[r].what_is_missing();
    if (!missing.empty()) out += fmt::format("  {}: missing: {}\n", rows[r].name, missing);
  }
  return out;
}

/// Searches, one line a row: what was chosen, of how many points.
std::string tuning_text(const Outcome& outcome, const char* line) {
  std::string out;
  for (const auto& row : outcome.rows) {
    if (row.trials == 0) continue;
    out += fmt::format(fmt::runtime(line), row.name, row.tuned, row.trials);
  }
  return out;
}

std::string maker_text(const Outcome& outcome) {
  std::string text;
  for (const auto& maker : makers_of(outcome.rows)) {
    text += (text.empty() ? "" : "; ") + text_of(maker);
  }
  return text;
}

/// A cell of a Markdown table.
std::string markdown_cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? "\\|" : c == '\n' ? " " : std::string(1, c);
  return out;
}

/// One table a figure of a group of rows.
std::string markdown_tables(const std::vector<Figure>& figures, const std::vector<RowResult>& rows,
                            size_t begin, size_t end) {
  std::string out;
  for (const auto& figure : figures) {
    std::string block;
    bool judged = false;
    for (size_t r = begin; r < end; ++r) {
      judged = judged || rows[r].cells.at(figure.name).standing != Standing::kNone;
    }
    for (size_t r = begin; r < end; ++r) {
      const Cell& cell = rows[r].cells.at(figure.name);
      if (!cell.applies) continue;
      block += fmt::format("| {} | {} | {} | {} | {} |{}\n", markdown_cell(rows[r].label),
                           reference_text(cell.paper), reference_text(cell.reference),
                           ours_text(cell, figure), count_text(cell),
                           judged ? fmt::format(" {} |", standing_text(cell)) : "");
    }
    if (block.empty()) continue;
    out += fmt::format(
        "\n### {}\n\n| row | paper | reference | ours | n |{}\n|---|---|---|---|---|{}\n{}",
        block_title(figure, rows, begin, end), judged ? " against the paper |" : "",
        judged ? "---|" : "", block);
  }
  for (size_t r = begin; r < end; ++r) {
    const std::string missing = rows[r].what_is_missing();
    if (!missing.empty()) out += fmt::format("\nMissing: {}: {}\n", rows[r].label, missing);
  }
  return out;
}

/// Every point that was tried.
std::string markdown_trials(const Outcome& outcome) {
  if (outcome.trials.empty()) return {};
  std::string out =
      "\n## Settings that were searched\n\nOn seeds of their own, none of which stands in a table "
      "above.\n\n| row | settings | figure | seeds | |\n|---|---|---|---|---|\n";
  for (const auto& trial : outcome.trials) {
    std::string set;
    for (const auto& part : trial.set) set += (set.empty() ? "" : ", ") + part;
    out +=
        fmt::format("| {} | `{}` | {} | {} | {} |\n", trial.row, set,
                    trial.figure.count > 0 ? short_number(trial.figure.value) : "",
                    trial.figure.count, trial.chosen ? "**chosen**" : markdown_cell(trial.missing));
  }
  return out;
}

Json cell_json(const Cell& cell) {
  Json figure = {{"n", cell.ours.count}, {"asked", cell.values.size()}, {"mean", cell.ours.mean}};
  if (cell.ours.count > 1) figure["std"] = cell.ours.std_dev;
  figure.update({{"median", cell.ours.median}, {"min", cell.ours.min}, {"max", cell.ours.max}});
  figure["value"] = cell.estimate.value;
  figure["interval"] = {cell.estimate.interval.low, cell.estimate.interval.high};
  figure["values"] = cell.values;
  if (cell.paper) figure["paper"] = *cell.paper;
  if (cell.reference) figure["reference"] = *cell.reference;
  if (cell.standing != Standing::kNone) {
    figure["standing"] = std::string(enum_name(cell.standing));
    figure["against"] = cell.against;
  }
  return figure;
}

Json claim_json(const ClaimResult& claim) {
  Json checks = Json::array();
  for (const auto& check : claim.checks) {
    checks.push_back({{"text", check.text},
                      {"verdict", std::string(enum_name(check.verdict))},
                      {"effect", check.effect.value},
                      {"interval", {check.effect.interval.low, check.effect.interval.high}},
                      {"seeds", check.effect.count},
                      {"detail", check.detail}});
  }
  return {{"claim", claim.text},
          {"source", claim.source},
          {"verdict", std::string(enum_name(claim.verdict))},
          {"checks", std::move(checks)}};
}

}  // namespace

report::Table figure_table(const Study& study, const Outcome& outcome) {
  const auto& rows = outcome.rows;
  report::Table table;
  table.header = {"recipe", "n"};
  const auto shown = told_figures(study.figure, rows, 0, rows.size());
  for (const auto* figure : shown) table.header.push_back(figure->title);
  for (const auto& row : rows) {
    const size_t count = row.folders().size();
    if (count == 0) continue;
    table.rows.push_back(
        {page_label(row, rows), count == row.runs.seeds.size()
                                    ? std::to_string(count)
                                    : fmt::format("{} of {}", count, row.runs.seeds.size())});
    for (const auto* figure : shown) {
      const auto& cell = row.cells.at(figure->name);
      std::string text = spread_text(cell, *figure);
      if (cell.paper && !text.empty()) text += " [" + short_number(*cell.paper) + "]";
      table.rows.back().push_back(std::move(text));
    }
  }
  return table;
}

report::Table claim_table(const Outcome& outcome) {
  report::Table table{{"claim", "verdict", "source", "effect and 95 % interval"}, {}};
  for (const auto& claim : outcome.claims) {
    table.rows.push_back(
        {claim.text, std::string(enum_name(claim.verdict)), claim.source, claim.detail});
  }
  return table;
}

report::IntervalPlot claim_plot(const Outcome& outcome) {
  static const std::map<Verdict, report::Mark> kMarks = {
      {Verdict::kHeld, report::Mark::kGood},
      {Verdict::kContradicted, report::Mark::kBad},
      {Verdict::kUndecided, report::Mark::kOpen}};
  report::IntervalPlot plot;
  plot.title = "Effect of each comparison with its 95 % interval, in widths of the interval";
  plot.left = "as claimed";
  plot.right = "against the claim";
  for (const auto& claim : outcome.claims) {
    for (const auto& check : claim.checks) {
      if (check.verdict == Verdict::kNotTested) continue;
      // Turned so that what is claimed lies on the left.
      const double sign = check.below ? 1 : -1;
      const Interval& at = check.effect.interval;
      plot.rows.push_back({claim.text, check.text, sign * check.effect.value,
                           sign * (check.below ? at.low : at.high),
                           sign * (check.below ? at.high : at.low), kMarks.at(check.verdict),
                           concat(enum_name(check.verdict), ": ", check.detail)});
    }
  }
  return plot;
}

std::vector<report::StripPlot> seed_plots(const Study& study, const Outcome& outcome) {
  std::vector<report::StripPlot> plots;
  for_groups(outcome.rows, [&](size_t begin, size_t end) {
    for (const auto& figure : study.figure) {
      report::StripPlot plot;
      plot.title = concat(group_of(outcome.rows[begin].name), ": ",
                          block_title(figure, outcome.rows, begin, end));
      for (size_t r = begin; r < end; ++r) {
        const Cell& cell = outcome.rows[r].cells.at(figure.name);
        if (cell.ours.count == 0) continue;
        report::Strip strip{outcome.rows[r].label, {}, cell.paper, cell.reference};
        for (const double value : cell.values) {
          if (!std::isnan(value)) strip.values.push_back(value);
        }
        plot.strips.push_back(std::move(strip));
      }
      if (!plot.strips.empty()) plots.push_back(std::move(plot));
    }
  });
  return plots;
}

std::string page_label(const RowResult& row, const std::vector<RowResult>& rows) {
  const auto same = std::count_if(rows.begin(), rows.end(),
                                  [&](const auto& other) { return other.label == row.label; });
  return same > 1 ? fmt::format("{} ({})", row.label, row.name) : row.label;
}

std::string to_text(const Study& study, const Outcome& outcome) {
  std::string out;
  for (const auto& note : outcome.notes) out += note + "\n";
  out += study.title + "\n" + study.source + "\n";
  if (!study.reference.empty()) out += "reference: " + study.reference + "\n";
  for_groups(outcome.rows, [&](size_t begin, size_t end) {
    out += has_comparison(outcome.rows, begin, end)
               ? comparison_blocks(study.figure, outcome.rows, begin, end)
               : compact_table(study.figure, outcome.rows, begin, end);
  });
  const std::string tuning = tuning_text(outcome, "  {}: {} (of {} points)\n");
  if (!tuning.empty()) out += "\nsettings that were searched\n" + tuning;
  const std::string standings = describe_standings(outcome.rows);
  if (!standings.empty()) out += "\n" + standings + "\n";
  if (outcome.claims.empty()) return out;
  out += "\nclaims\n";
  for (const auto& claim : outcome.claims) {
    out += fmt::format("  [{}] {} ({})\n", enum_name(claim.verdict), claim.text, claim.source);
    for (const auto& check : claim.checks) {
      out += fmt::format("      {}: {}\n", check.text, check.detail);
    }
  }
  return out + "\n" + describe(tally(outcome.claims), outcome.looks) + "\n";
}

std::string to_markdown(const Study& study, const Outcome& outcome) {
  std::string out;
  for (const auto& note : outcome.notes) out += fmt::format("**{}**\n\n", note);
  out += fmt::format("# {}\n\n{}\n\nCommand: `{}`\n", study.title, study.source, outcome.command);
  if (const auto maker = maker_text(outcome); !maker.empty()) {
    out += fmt::format("\nMade by {}.\n\n", maker);
  }
  for (const auto& note : study.notes) out += fmt::format("- {}\n", note);
  out +=
      "\nOurs: mean ± standard deviation over n seeds, or the median where it says so, and in "
      "brackets the 95 % interval (Student's t; order statistics for medians; Clopper-Pearson for "
      "shares of seeds, of two rows paired after Newcombe). Paper: the printed value.";
  out += study.reference.empty() ? "\n" : " Reference: " + study.reference + "\n";
  const std::string standings = describe_standings(outcome.rows);
  if (!standings.empty()) out += "\n" + standings + "\n";
  for_groups(outcome.rows, [&](size_t begin, size_t end) {
    out += fmt::format("\n## {}\n", group_of(outcome.rows[begin].name));
    out += markdown_tables(study.figure, outcome.rows, begin, end);
  });
  out += markdown_trials(outcome);
  if (outcome.claims.empty()) return out;
  out += fmt::format("\n## Claims\n\n{}\n\n", describe(tally(outcome.claims), outcome.looks));
  out += "| verdict | claim | source | effect, 95 % interval, seeds |\n|---|---|---|---|\n";
  for (const auto& claim : outcome.claims) {
    out += fmt::format("| **{}** | {} | {} | {} |\n", enum_name(claim.verdict),
                       markdown_cell(claim.text), markdown_cell(claim.source),
                       markdown_cell(claim.detail));
  }
  return out;
}

Json to_json(const Study& study, const Outcome& outcome) {
  Json out = {{"title", study.title},   {"source", study.source}, {"command", outcome.command},
              {"seeds", outcome.seeds}, {"looks", outcome.looks}, {"notes", outcome.notes}};
  out["rows"] = Json::array();
  for (const auto& row : outcome.rows) {
    Json item = {{"name", row.name}, {"label", row.label}, {"data", row.runs.data}};
    item["runs"] = Json::array();
    for (const auto& folder : row.folders()) item["runs"].push_back(folder.string());
    if (const auto missing = row.what_is_missing(); !missing.empty()) item["missing"] = missing;
    if (row.trials > 0) item["tuned"] = {{"trials", row.trials}, {"set", row.tuned}};
    for (const auto& [name, cell] : row.cells) {
      if (cell.applies) item["figures"][name] = cell_json(cell);
    }
    out["rows"].push_back(std::move(item));
  }
  out["claims"] = Json::array();
  for (const auto& claim : outcome.claims) out["claims"].push_back(claim_json(claim));
  out["tally"] = describe(tally(outcome.claims), outcome.looks);
  return out;
}

}  // namespace moekit::study
