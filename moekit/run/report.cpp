#include "moekit/run/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <regex>

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

std::string figure_text(const std::vector<Json>& summaries, const std::string& pointer) {
  std::vector<double> values;
  for (const auto& summary : summaries) {
    if (const auto value = find_figure(summary, pointer)) values.push_back(*value);
  }
  if (values.empty()) return "";
  const auto s = summarize(values);
  return values.size() < 2 ? fmt::format("{:.4f}", s.mean)
                           : fmt::format("{:.4f} ± {:.4f} ({:.4f})", s.mean, s.std_dev, s.median);
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

report::Table comparison(const std::vector<RunGroup>& groups,
                         const std::vector<ReportFigure>& figures) {
  report::Table table;
  table.header = {"recipe", "n"};
  for (const auto& figure : figures) table.header.push_back(figure.title);
  table.header.emplace_back("parameters");
  table.header.emplace_back("seconds");
  for (const auto& [name, runs] : groups) {
    std::vector<std::string> row = {name, std::to_string(runs.size())};
    std::vector<Json> summaries;
    for (const auto& run : runs) summaries.push_back(read_summary(run));
    for (const auto& figure : figures) row.push_back(figure_text(summaries, figure.pointer));
    row.push_back(summaries[0]["parameters"].dump());
    std::vector<double> seconds;
    for (const auto& summary : summaries) seconds.push_back(summary["seconds"].get<double>());
    row.push_back(fmt::format("{:.0f}", summarize(seconds).mean));
    table.rows.push_back(std::move(row));
  }
  drop_empty_columns(table);
  return table;
}

}  // namespace

std::string recipe_name(const fs::path& run) {
  static const std::regex kSeed("[-_./]*seed[0-9]+$");
  const fs::path clean = fs::path(run.string().ends_with('/') ? run.parent_path() : run);
  const std::string own = std::regex_replace(clean.filename().string(), kSeed, "");
  return own.empty() ? clean.parent_path().filename().string() : own;
}

std::vector<RunGroup> group_by_recipe(const std::vector<fs::path>& runs) {
  std::vector<RunGroup> groups;
  for (const auto& run : runs) {
    const std::string name = recipe_name(run);
    auto found = std::find_if(groups.begin(), groups.end(),
                              [&](const RunGroup& group) { return group.name == name; });
    if (found == groups.end()) found = groups.insert(groups.end(), {name, {}});
    found->runs.push_back(run);
  }
  return groups;
}

report::Chart chart_of(const std::string& title, const std::vector<Json>& lines,
                       const std::vector<std::pair<std::string, std::string>>& places) {
  report::Chart chart{title, "epoch", {}, {}, false};
  for (const auto& line : lines) chart.x.push_back(line["epoch"].get<double>());
  for (const auto& [name, pointer] : places) {
    report::Series series{name, {}};
    for (const auto& line : lines) {
      const Json::json_pointer at(pointer);
      if (line.contains(at)) series.values.push_back(line[at].get<double>());
    }
    if (series.values.size() == chart.x.size()) chart.series.push_back(std::move(series));
  }
  return chart;
}

report::Page make_report(const std::vector<RunGroup>& groups, const TaskOf& task_of,
                         const std::string& data_folder) {
  MOEKIT_CHECK(!groups.empty(), "report: needs at least one run");
  report::Page page;
  page.title = "Which expert does what";
  const auto figures = figures_of(groups, task_of);
  auto table = comparison(groups, figures);
  for (const auto& figure : figures) {
    const bool shown =
        std::find(table.header.begin(), table.header.end(), figure.title) != table.header.end();
    if (shown && !figure.doc.empty()) page.introduction += figure.doc + " ";
  }
  page.introduction += "Figures are mean ± standard deviation (median) over n seeds.";
  page.tables.emplace_back("Comparison", std::move(table));
  for (const auto& group : groups) {
    const auto& run = group.runs.front();
    page.models.push_back(task_of(run).section(group.name, run, data_folder));
  }
  return page;
}

}  // namespace moekit::run
