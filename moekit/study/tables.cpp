#include "moekit/study/tables.h"

#include <fmt/format.h>

#include <algorithm>

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

std::string ours_text(const Summary& s) {
  if (s.count == 1) return short_number(s.mean);  // of one seed no spread is known
  return fmt::format("{} ± {} ({})", short_number(s.mean), short_number(s.std_dev),
                     short_number(s.median));
}

std::string reference_text(const std::optional<double>& value) {
  return value ? short_number(*value) : "-";
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
      out += fmt::format(" {:>12}", ours.count > 0 ? short_number(ours.mean) : "");
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
                           short_number(cell.ours.mean),
                           cell.ours.count > 1 ? short_number(cell.ours.std_dev) : "-",
                           short_number(cell.ours.median), cell.ours.count, cell.verdict);
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

report::Table figure_table(const Study& study, const std::vector<RowResult>& rows) {
  report::Table table;
  table.header = {"recipe", "n"};
  std::vector<std::string> shown;
  for (const auto& figure : study.figure) {
    const bool any = std::any_of(rows.begin(), rows.end(), [&](const auto& row) {
      return row.cells.at(figure.name).ours.count > 0;
    });
    if (!any) continue;
    shown.push_back(figure.name);
    table.header.push_back(figure.title);
  }
  for (const auto& row : rows) {
    if (row.runs.empty()) continue;
    table.rows.push_back({page_label(row, rows), std::to_string(row.runs.size())});
    for (const auto& name : shown) {
      const auto& cell = row.cells.at(name);
      std::string text = report::figure_text(cell.ours);
      if (cell.paper && !text.empty()) text += " [" + short_number(*cell.paper) + "]";
      table.rows.back().push_back(std::move(text));
    }
  }
  return table;
}

report::Table claim_table(const std::vector<ClaimResult>& claims) {
  report::Table table{{"verdict", "claim", "source"}, {}};
  for (const auto& claim : claims) {
    table.rows.push_back({std::string(enum_name(claim.verdict)), claim.text, claim.source});
  }
  return table;
}

std::string page_label(const RowResult& row, const std::vector<RowResult>& rows) {
  const auto same = std::count_if(rows.begin(), rows.end(),
                                  [&](const auto& other) { return other.label == row.label; });
  return same > 1 ? fmt::format("{} ({})", row.label, row.name) : row.label;
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
      "\nOurs: mean ± standard deviation (median) over n seeds, or the value of one. Paper: the "
      "printed value. "
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
      figure = {{"n", cell.ours.count}, {"mean", cell.ours.mean}};
      if (cell.ours.count > 1) figure["std"] = cell.ours.std_dev;
      figure.update({{"median", cell.ours.median}, {"min", cell.ours.min}, {"max", cell.ours.max}});
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
