#include "moekit/run/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <regex>
#include <set>

#include "moekit/core/schema.h"
#include "moekit/core/statistics.h"

namespace moekit::run {
namespace fs = std::filesystem;
namespace {

/// Takes out columns in which no row has anything.
void drop_empty_columns(report::Table& table) {
  for (size_t c = table.header.size(); c-- > 0;) {
    const bool empty = std::all_of(table.rows.begin(), table.rows.end(),
                                   [&](const auto& row) { return row[c].empty(); });
    if (!empty) continue;
    table.header.erase(table.header.begin() + static_cast<std::ptrdiff_t>(c));
    for (auto& row : table.rows) row.erase(row.begin() + static_cast<std::ptrdiff_t>(c));
  }
}

/// The number at a pointer whose "*" stands for the first member of an object.
std::optional<double> find_figure(const Json& summary, const std::string& pointer) {
  const Json* at = &summary;
  for (size_t begin = 1; begin <= pointer.size();) {
    const size_t end = std::min(pointer.find('/', begin), pointer.size());
    const std::string key = pointer.substr(begin, end - begin);
    if (!at->is_object() || at->empty()) return std::nullopt;
    const auto found = key == "*" ? at->begin() : at->find(key);
    if (found == at->end()) return std::nullopt;
    at = &*found;
    begin = end + 1;
  }
  return at->is_number() ? std::optional(at->get<double>()) : std::nullopt;
}

std::vector<double> find_figures(const std::vector<Json>& summaries, const std::string& pointer) {
  std::vector<double> values;
  for (const auto& summary : summaries) {
    if (const auto value = find_figure(summary, pointer)) values.push_back(*value);
  }
  return values;
}

/// The columns of all tasks among the runs, each once.
std::vector<ReportFigure> figures_of(const std::vector<RunGroup>& groups, const TaskOf& task_of) {
  std::vector<ReportFigure> figures;
  for (const auto& group : groups) {
    for (const auto& figure : task_of(group.runs.front()).report_figures()) {
      const bool known =
          std::any_of(figures.begin(), figures.end(), [&](const ReportFigure& other) {
            return other.title == figure.title && other.pointer == figure.pointer;
          });
      if (!known) figures.push_back(figure);
    }
  }
  return figures;
}

/// Summaries of all runs, by group.
using Summaries = std::vector<std::vector<Json>>;

report::Table comparison(const std::vector<RunGroup>& groups, const Summaries& summaries,
                         const std::vector<ReportFigure>& figures) {
  report::Table table;
  table.header = {"recipe", "n"};
  for (const auto& figure : figures) {
    table.header.push_back(figure.unit.empty() ? figure.title : figure.title + ", " + figure.unit);
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    table.rows.push_back({groups[g].name, std::to_string(groups[g].runs.size())});
    for (const auto& figure : figures) {
      table.rows.back().push_back(
          report::figure_text(summarize(find_figures(summaries[g], figure.pointer))));
    }
  }
  drop_empty_columns(table);
  return table;
}

/// The same columns for all tables: what a run costs.
void add_costs(report::Table& table, const Summaries& summaries) {
  table.header.insert(table.header.end(), {"parameters", "seconds"});
  for (size_t g = 0; g < summaries.size(); ++g) {
    const auto parameters = find_figure(summaries[g].front(), "/parameters");
    const auto seconds = find_figures(summaries[g], "/seconds");
    table.rows[g].push_back(parameters ? fmt::format("{:.0f}", *parameters) : "");
    table.rows[g].push_back(seconds.empty() ? "" : fmt::format("{:.0f}", summarize(seconds).mean));
  }
}

/// "0.0942 bit".
std::string with_unit(double value, const std::string& unit) {
  return fmt::format("{:.3g}{}{}", value, unit.empty() ? "" : " ", unit);
}

/// "a" and "b": the recipes with this value.
std::string names_at(const std::vector<std::string>& groups, const std::vector<double>& values,
                     double value) {
  std::string names;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (values[g] == value) names += concat(names.empty() ? "" : " and ", "“", groups[g], "”");
  }
  return names;
}

/// Who stands out in one figure.
std::vector<std::string> findings_of(const ReportFigure& figure,
                                     const std::vector<std::string>& groups,
                                     const std::vector<double>& values) {
  std::vector<double> finite;
  for (const double value : values) {
    if (std::isfinite(value)) finite.push_back(value);
  }
  if (finite.empty() || (figure.of_largest.empty() && figure.of_smallest.empty())) return {};
  const auto [smallest, largest] = std::minmax_element(finite.begin(), finite.end());
  if (*smallest == *largest) {  // nobody
    return {concat(figure.title, " is ", with_unit(*largest, figure.unit))};
  }
  std::vector<std::string> parts;
  for (const auto& [value, words] :
       {std::pair(*largest, figure.of_largest), std::pair(*smallest, figure.of_smallest)}) {
    if (words.empty()) continue;
    // Named once, by its title or by the words.
    const bool named = !parts.empty() || words.find(figure.title) != std::string::npos;
    parts.push_back(concat(words, " ", names_at(groups, values, value), " (",
                           named ? "" : figure.title + " ", with_unit(value, figure.unit), ")"));
  }
  return parts;
}

/// The page's first sentence.
std::string lead_of(const report::Page& page, const std::string& found) {
  std::string shows;
  for (const auto& model : page.models) {
    if (model.shows.empty() || shows.find(model.shows) != std::string::npos) continue;
    shows += (shows.empty() ? "" : "; ") + model.shows;
  }
  std::string lead = shows + (shows.empty() || found.empty() ? "" : ": ") + found;
  if (lead.empty()) return lead;
  lead[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(lead[0])));
  return lead + ".";
}

}  // namespace

std::string findings(const std::vector<ReportFigure>& figures,
                     const std::vector<std::string>& groups,
                     const std::vector<std::vector<double>>& values) {
  std::vector<std::string> parts;
  for (size_t f = 0; f < figures.size(); ++f) {
    for (auto& part : findings_of(figures[f], groups, values[f])) parts.push_back(std::move(part));
  }
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += i + 1 < parts.size() ? ", " : parts.size() > 2 ? ", and " : " and ";
    out += parts[i];
  }
  return out;
}

std::string recipe_name(const fs::path& run) {
  static const std::regex kSeed("[-_./]*seed[0-9]+$");
  const fs::path clean = fs::path(run.string().ends_with('/') ? run.parent_path() : run);
  const std::string own = std::regex_replace(clean.filename().string(), kSeed, "");
  return own.empty() ? clean.parent_path().filename().string() : own;
}

std::vector<RunGroup> group_by_recipe(const std::vector<fs::path>& runs) {
  std::vector<RunGroup> groups;
  std::set<fs::path> known;
  for (const auto& run : runs) {
    std::error_code error;
    MOEKIT_CHECK(known.insert(fs::weakly_canonical(run, error)).second, "report: ", run.string(),
                 " is given twice; a run counts once");
    const std::string name = recipe_name(run);
    auto found = std::find_if(groups.begin(), groups.end(),
                              [&](const RunGroup& group) { return group.name == name; });
    if (found == groups.end()) found = groups.insert(groups.end(), {name, {}});
    found->runs.push_back(run);
  }
  return groups;
}

report::Chart chart_of(const std::string& title, const std::string& y_title,
                       const std::vector<Json>& lines,
                       const std::vector<std::pair<std::string, std::string>>& places) {
  report::Chart chart{title, "epoch", {}, {}, false, y_title};
  for (const auto& line : lines) chart.x.push_back(line["epoch"].get<double>());
  for (const auto& [name, pointer] : places) {
    report::Series series{name, {}};
    for (const auto& line : lines) {
      const Json::json_pointer at(pointer);
      if (line.contains(at)) series.values.push_back(figure_value(line[at]));
    }
    if (series.values.size() == chart.x.size()) chart.series.push_back(std::move(series));
  }
  return chart;
}

report::Page make_report(const std::vector<RunGroup>& groups, const TaskOf& task_of,
                         const std::string& data_folder,
                         const std::optional<report::Table>& figure_table) {
  MOEKIT_CHECK(!groups.empty(), "report: needs at least one run");
  report::Page page;
  page.title = "Which expert does what";
  const auto figures = figures_of(groups, task_of);
  Summaries summaries;
  std::vector<std::string> names;
  for (const auto& group : groups) {
    names.push_back(group.name);
    summaries.emplace_back();
    for (const auto& run : group.runs) summaries.back().push_back(read_summary(run));
    page.models.push_back(
        task_of(group.runs.front()).section(group.name, group.runs.front(), data_folder));
    if (group.runs.size() > 1) {
      page.models.back().subtitle += concat(" (the first of ", group.runs.size(), " seeds)");
    }
  }
  std::vector<std::vector<double>> means;
  page.legend = "n: number of seeds; with several, mean ± standard deviation.";
  for (const auto& figure : figures) {
    means.emplace_back();
    bool any = false;
    for (const auto& group : summaries) {
      const auto values = find_figures(group, figure.pointer);
      any = any || !values.empty();
      means.back().push_back(summarize(values).mean);  // NaN for none
    }
    if (any && !figure.doc.empty()) page.legend += " " + figure.doc;
  }
  auto table = figure_table ? *figure_table : comparison(groups, summaries, figures);
  MOEKIT_CHECK(table.rows.size() == groups.size(), "report: the table has ", table.rows.size(),
               " rows for ", groups.size(), " recipes");
  add_costs(table, summaries);
  page.tables.emplace_back("Figures", std::move(table));
  page.lead = lead_of(page, findings(figures, names, means));
  return page;
}

}  // namespace moekit::run
