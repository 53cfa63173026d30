#include "moekit/tasks/continual/section.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/schema.h"
#include "moekit/run/run_folder.h"

namespace moekit::continual {
namespace {

constexpr bool kOptional = false;
constexpr double kNoCell = std::numeric_limits<double>::quiet_NaN();

using Table = std::vector<std::vector<double>>;

std::vector<std::string> names_of(const Json& summary) {
  return summary["tasks"].get<std::vector<std::string>>();
}

/// Refuses a matrix whose sizes are not those of the tasks.
void check_sizes(const Json& summary, const std::string& where) {
  const size_t tasks = summary["tasks"].size();
  MOEKIT_CHECK_FORMAT(tasks > 0 && summary["accuracy"].size() == tasks &&
                          summary["accuracy_before"].size() == tasks,
                      where, ": accuracy is no matrix of ", tasks, " tasks");
  for (const auto& row : summary["accuracy"]) {
    MOEKIT_CHECK_FORMAT(row.size() == tasks, where, ": accuracy: a row has ", row.size(),
                        " figures of ", tasks, " tasks");
  }
  for (const auto& [layer, rows] : summary["used"].items()) {
    MOEKIT_CHECK_FORMAT(rows.size() == tasks, where, ": used.", layer, " has ", rows.size(),
                        " rows of ", tasks, " tasks");
    for (const auto& row : rows) {
      MOEKIT_CHECK_FORMAT(row.size() == rows[0].size() && !row.empty(), where, ": used.", layer,
                          ": rows of ", row.size(), " and of ", rows[0].size(), " experts");
    }
  }
}

report::HeatMap accuracy_map(const Json& summary) {
  report::HeatMap map;
  map.title = "Accuracy on each task (column) after each has been learnt (row)";
  map.column_labels = names_of(summary);
  map.column_title = "tested on";
  map.value_title = "test images that are classified rightly";
  map.row_labels.push_back("before");
  map.values.push_back(summary["accuracy_before"].get<std::vector<double>>());
  for (size_t t = 0; t < summary["tasks"].size(); ++t) {
    map.row_labels.push_back(summary["tasks"][t].get<std::string>());
    map.values.push_back(summary["accuracy"][t].get<std::vector<double>>());
  }
  for (auto& row : map.values) {
    for (double& value : row) value /= 100;
  }
  return map;
}

report::Chart accuracy_chart(const Json& summary) {
  report::Chart chart{"Accuracy on every task over time", "tasks learnt", {}, {}, false, "%"};
  const auto names = names_of(summary);
  for (size_t j = 0; j < names.size(); ++j) {
    report::Series series{names[j], {summary["accuracy_before"][j].get<double>()}};
    for (const auto& row : summary["accuracy"]) series.values.push_back(row[j].get<double>());
    chart.series.push_back(std::move(series));
  }
  for (size_t t = 0; t <= names.size(); ++t) chart.x.push_back(static_cast<double>(t));
  return chart;
}

std::vector<std::string> numbers(size_t count) {
  std::vector<std::string> out;
  for (size_t i = 0; i < count; ++i) out.push_back(std::to_string(i));
  return out;
}

/// Shares of a task's assignments that each expert got.
report::HeatMap usage_map(const std::string& layer, const Json& summary) {
  report::HeatMap map;
  const auto counts = summary["used"][layer].get<Table>();
  map.title = "Which task (row) used which expert (column) of " + layer;
  map.row_labels = names_of(summary);
  map.column_labels = numbers(counts[0].size());
  map.column_title = "expert";
  map.value_title = "a task's assignments";
  for (auto row : counts) {
    const double sum = std::accumulate(row.begin(), row.end(), 0.0);
    for (double& value : row) value = sum > 0 ? value / sum : 0;
    map.values.push_back(std::move(row));
  }
  return map;
}

/// Who was merged into whom and when: a column a merge; the parents' shares before it and the share
/// that what was written got until the next.
void add_merges(report::ModelSection& section, const std::string& layer, const Json& summary) {
  const size_t experts = summary["used"][layer][0].size();
  report::HeatMap map;
  map.title = "Merges in " + layer +
              ", by step: the parents' share of the tokens before, and, behind an arrow, the share "
              "after of the expert that the merged one was written over";
  map.row_labels = numbers(experts);
  map.column_title = "step";
  map.value_title = "assignments";
  map.values.resize(experts);
  map.marks.resize(experts);
  report::Chart chart{"Use of merged experts of " + layer, "step", {}, {}, false, "share"};
  chart.series = {{"both parents before", {}}, {"least used before", {}}, {"merged, after", {}}};
  std::vector<int64_t> victims;
  for (const auto& merge : summary["merges"]) {
    if (merge["layer"] != layer) continue;
    const double all = std::max(merge["all_count"].get<double>(), 1.0);
    const auto share = [&](const char* key) { return merge[key].get<double>() / all; };
    const double after = merge["used_after"].get<double>();
    map.column_labels.push_back(merge["step"].dump());
    for (size_t e = 0; e < experts; ++e) {
      const auto is = [&](const char* role) { return merge[role].get<size_t>() == e; };
      map.values[e].push_back(is("first")    ? share("first_count")
                              : is("second") ? share("second_count")
                              : is("victim") ? after
                                             : kNoCell);
      map.marks[e].emplace_back(is("victim") ? "\u2192" : "");
    }
    chart.x.push_back(merge["step"].get<double>());
    chart.series[0].values.push_back(share("first_count") + share("second_count"));
    chart.series[1].values.push_back(share("victim_count"));
    chart.series[2].values.push_back(after);
  }
  if (chart.x.empty()) return;
  section.heat_maps.push_back(std::move(map));
  section.charts.push_back(std::move(chart));
}

}  // namespace

Json read_run_summary(const std::filesystem::path& run) {
  const Schema table = Schema::list(Schema::list(Schema::number(0)));
  const Schema merge = Schema::object({{"step", Schema::count()},
                                       {"layer", Schema::text()},
                                       {"first", Schema::count()},
                                       {"second", Schema::count()},
                                       {"victim", Schema::count()},
                                       {"first_count", Schema::number(0)},
                                       {"second_count", Schema::number(0)},
                                       {"victim_count", Schema::number(0)},
                                       {"all_count", Schema::number(0)},
                                       {"used_after", Schema::number(0, 1)}});
  static const Schema kSchema =
      Schema::object({{"tasks", Schema::list(Schema::text())},
                      {"accuracy", Schema::list(Schema::list(Schema::number(0, 100)))},
                      {"accuracy_before", Schema::list(Schema::number(0, 100))},
                      {"figures", Schema::map(Schema::number())},
                      {"used", Schema::map(table)},
                      {"merges", Schema::list(merge), kOptional}});
  Json summary = run::read_summary(run, kSchema);
  check_sizes(summary, (run / "summary.json").string());
  return summary;
}

report::ModelSection make_section(const std::string& title, const std::filesystem::path& run) {
  const Json summary = read_run_summary(run);
  report::ModelSection section;
  section.title = title;
  const auto& figures = summary["figures"];
  for (const auto& [key, name] : {std::pair{"transfer", "Transfer"}, std::pair{"average", "Avg"},
                                  std::pair{"last", "Last"}}) {
    if (!figures.contains(key)) continue;
    section.subtitle += fmt::format("{}{} {:.1f} %", section.subtitle.empty() ? "" : ", ", name,
                                    figures[key].get<double>());
  }
  section.place = fmt::format("seed {}, {}", summary["seed"].get<int64_t>(), run.string());
  section.shows = "each map shows how well every task is known after each of them";
  section.recipe = read_file(run / "config.toml", 1 << 24);
  section.overview_maps.push_back(accuracy_map(summary));
  section.charts.push_back(accuracy_chart(summary));
  for (const auto& [layer, counts] : summary["used"].items()) {
    section.heat_maps.push_back(usage_map(layer, summary));
    if (summary.contains("merges")) add_merges(section, layer, summary);
  }
  return section;
}

}  // namespace moekit::continual
