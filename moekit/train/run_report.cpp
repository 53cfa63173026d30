#include "moekit/train/run_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <regex>

#include "moekit/core/files.h"
#include "moekit/core/statistics.h"
#include "moekit/train/inspection.h"
#include "moekit/train/run.h"

namespace moekit::train {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kSheetImages = 36;
constexpr int64_t kSheetColumns = 6;

struct ReportFigure {
  const char* title;
  const char* pointer;
};
constexpr ReportFigure kFigures[] = {
    {"test error", "/test/error"},         {"train error", "/train/error"},
    {"I(E;Y) bit", "/mutual_information"}, {"H_s bit", "/sample_entropy"},
    {"H_u bit", "/usage_entropy"},
};

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

/// A run's figure: of the run, or of its first layer.
std::optional<double> find_figure(const Json& summary, const char* pointer) {
  const Json::json_pointer at(pointer);
  if (summary.contains(at)) return summary[at].get<double>();
  if (!summary.contains("test") || !summary["test"].contains("layers")) return std::nullopt;
  const Json& layer = summary["test"]["layers"].begin().value();
  return layer.contains(at) ? std::optional(layer[at].get<double>()) : std::nullopt;
}

report::Table comparison(const std::vector<RunGroup>& groups) {
  report::Table table;
  table.header = {"recipe", "n"};
  for (const auto& figure : kFigures) {
    table.header.emplace_back(figure.title);
  }
  table.header.emplace_back("parameters");
  table.header.emplace_back("seconds");
  for (const auto& [name, runs] : groups) {
    std::vector<std::string> row = {name, std::to_string(runs.size())};
    std::vector<Json> summaries;
    for (const auto& run : runs) summaries.push_back(read_summary(run));
    for (const auto& figure : kFigures) {
      std::vector<double> values;
      for (const auto& summary : summaries) {
        if (const auto value = find_figure(summary, figure.pointer)) values.push_back(*value);
      }
      const auto s = summarize(values);
      if (values.size() < 2) {
        row.push_back(values.empty() ? "" : fmt::format("{:.4f}", s.mean));
      } else {
        row.push_back(fmt::format("{:.4f} ± {:.4f} ({:.4f})", s.mean, s.std_dev, s.median));
      }
    }
    row.push_back(summaries[0]["parameters"].dump());
    std::vector<double> seconds;
    for (const auto& summary : summaries) seconds.push_back(summary["seconds"].get<double>());
    row.push_back(fmt::format("{:.0f}", summarize(seconds).mean));
    table.rows.push_back(std::move(row));
  }
  drop_empty_columns(table);
  return table;
}

std::vector<std::string> expert_names(int64_t experts) {
  std::vector<std::string> names;
  for (int64_t e = 0; e < experts; ++e) names.push_back(std::to_string(e));
  return names;
}

/// Rows of a count table divided by their sums.
std::vector<std::vector<double>> row_shares(const Json& counts) {
  std::vector<std::vector<double>> out;
  for (const auto& row : counts) {
    auto values = row.get<std::vector<double>>();
    double sum = 0;
    for (const double value : values) sum += value;
    for (double& value : values) value = sum > 0 ? value / sum : 0;
    out.push_back(std::move(values));
  }
  return out;
}

report::Bitmap bitmap_of(const torch::Tensor& image) {
  const auto pixels = image.permute({1, 2, 0}).contiguous();
  report::Bitmap bitmap{image.size(2), image.size(1), image.size(0), {}};
  bitmap.pixels.assign(pixels.data_ptr<uint8_t>(), pixels.data_ptr<uint8_t>() + pixels.numel());
  return bitmap;
}

std::vector<report::Sheet> sheets_of(const metrics::LayerTrace& layer, const RunData& data,
                                     const Json& inspected) {
  std::vector<report::Sheet> sheets;
  const auto favourites = favourite_images(layer, kSheetImages);
  for (size_t e = 0; e < favourites.size(); ++e) {
    report::Sheet sheet;
    sheet.caption = fmt::format("expert {}: {:.1f} % of the images", e,
                                100 * inspected["usage"][e].get<double>());
    std::vector<report::Bitmap> tiles;
    for (const int64_t index : favourites[e]) tiles.push_back(bitmap_of(data.test.images[index]));
    if (!tiles.empty()) {
      sheet.data_uri = report::png_data_uri(report::contact_sheet(tiles, kSheetColumns));
    }
    sheets.push_back(std::move(sheet));
  }
  return sheets;
}

/// A chart of figures that stand at these places of every epoch's line.
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

/// Experts against clusters over time: one map a cluster, share of the cluster that each expert
/// (row) is given at each tested epoch (column).
void add_cluster_maps(report::ModelSection& section, const std::string& at,
                      const std::vector<Json>& lines, int64_t experts) {
  const Json::json_pointer counts(at + "cluster/counts");
  std::vector<const Json*> tested;
  for (const auto& line : lines) {
    if (line.contains(counts)) tested.push_back(&line);
  }
  if (tested.size() < 2) return;
  const size_t step = (tested.size() + 9) / 10;  // at most 10 columns
  std::vector<const Json*> shown;
  for (size_t i = (tested.size() - 1) % step; i < tested.size(); i += step) {
    shown.push_back(tested[i]);
  }
  std::vector<std::string> epochs;
  for (const auto* line : shown) epochs.push_back((*line)["epoch"].dump());
  const size_t clusters = (*shown[0])[counts].size();
  for (size_t k = 0; k < clusters; ++k) {
    report::HeatMap map{fmt::format("Cluster {}: which expert gets it, over time (epochs)", k),
                        expert_names(experts),
                        epochs,
                        {},
                        true};
    map.values.resize(static_cast<size_t>(experts));
    for (const auto* line : shown) {
      const auto shares = row_shares((*line)[counts])[k];
      for (size_t e = 0; e < shares.size(); ++e) map.values[e].push_back(shares[e]);
    }
    section.heat_maps.push_back(std::move(map));
  }
}

/// Largest alignment with each kind of true direction over time, for experts and router.
void add_alignment_charts(report::ModelSection& section, const std::vector<Json>& lines) {
  for (const char* part : {"experts", "router"}) {
    report::Chart chart{
        fmt::format("Alignment of the {} with the true directions", part), "epoch", {}, {}, false};
    std::map<std::string, std::vector<double>> series;
    for (const auto& line : lines) {
      const Json::json_pointer at(fmt::format("/alignment/{}", part));
      if (!line.contains(at)) continue;
      chart.x.push_back(line["epoch"].get<double>());
      for (const auto& [name, table] : line[at].items()) {
        double largest = 0;
        for (const auto& row : table) {
          for (const auto& value : row) largest = std::max(largest, std::abs(value.get<double>()));
        }
        series[name].push_back(largest);
      }
    }
    for (auto& [name, values] : series) chart.series.push_back({"largest with " + name, values});
    if (!chart.series.empty()) section.charts.push_back(std::move(chart));
  }
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

report::ModelSection classification_section(const std::string& title, const fs::path& run,
                                            const RunData& data) {
  const Json inspected = inspect_run(run, data);
  const auto trace = metrics::read_trace(run / "trace.safetensors");
  const auto lines = read_metrics(run);
  report::ModelSection section;
  section.title = title;
  section.subtitle = fmt::format(
      "{}, seed {}, test error {:.4f}; run folder {}", inspected["data"].get<std::string>(),
      inspected["seed"].get<int64_t>(), inspected["error"].get<double>(), run.string());
  section.recipe = read_file(run / "config.toml", 1 << 24);
  section.charts.push_back(
      chart_of("Error over time", lines, {{"training", "/train_error"}, {"test", "/test/error"}}));
  add_alignment_charts(section, lines);
  for (size_t l = 0; l < trace.layers.size(); ++l) {
    const auto& layer = trace.layers[l];
    const Json& item = inspected["layers"][l];
    const int64_t experts = layer.num_experts();
    const std::string at = "/test/layers/" + layer.name + "/";
    section.heat_maps.push_back(
        {"Which expert gets a class (rows, percent of the class's test images)", data.class_names,
         expert_names(experts), row_shares(item["by_label"]["counts"]),
         data.class_names.size() <= 20});
    if (item.contains("by_cluster")) {
      std::vector<std::string> clusters =
          expert_names(static_cast<int64_t>(item["by_cluster"]["counts"].size()));
      section.heat_maps.push_back({"Which expert gets a true cluster (percent)", clusters,
                                   expert_names(experts), row_shares(item["by_cluster"]["counts"]),
                                   true});
    }
    add_cluster_maps(section, at, lines, experts);
    section.charts.push_back(chart_of("Entropies over time (bit)", lines,
                                      {{"I(E;Y)", at + "mutual_information"},
                                       {"H_u, usage", at + "usage_entropy"},
                                       {"H_s, sample", at + "sample_entropy"}}));
    std::vector<std::pair<std::string, std::string>> usage;
    for (int64_t e = 0; e < experts; ++e) {
      usage.emplace_back(fmt::format("expert {}", e), fmt::format("{}usage/{}", at, e));
    }
    auto chart = chart_of("Usage over time", lines, usage);
    chart.stacked = true;
    if (!chart.series.empty()) section.charts.push_back(std::move(chart));
    if (item.contains("saturation_over_time")) {
      report::Chart saturation{"Share of the final choices already made", "step", {}, {}, false};
      saturation.series.push_back({"saturation", {}});
      for (const auto& point : item["saturation_over_time"]) {
        saturation.x.push_back(point["step"].get<double>());
        saturation.series[0].values.push_back(point["value"].get<double>());
      }
      section.charts.push_back(std::move(saturation));
    }
    if (data.test.images.is_floating_point()) continue;  // numbers are no pictures
    for (auto& sheet : sheets_of(layer, data, item)) section.sheets.push_back(std::move(sheet));
    if (item.contains("confusion")) {
      for (size_t e = 0; e < item["confusion"].size(); ++e) {
        section.confusion.push_back({fmt::format("expert {}", e), data.class_names,
                                     data.class_names, row_shares(item["confusion"][e]), false});
      }
    }
  }
  return section;
}

report::Page make_report(const std::vector<RunGroup>& groups, const SectionMaker& section) {
  MOEKIT_CHECK(!groups.empty(), "report: needs at least one run");
  report::Page page;
  page.title = "Which expert does what";
  auto table = comparison(groups);
  const bool routed =
      std::find(table.header.begin(), table.header.end(), "I(E;Y) bit") != table.header.end();
  if (routed) {
    page.introduction =
        "I(E;Y): information between expert and predicted class, more is more specialised. H_s: "
        "entropy of the router's choice for one sample, less is sharper. H_u: entropy of expert "
        "usage, more is more even. ";
  }
  page.introduction += "Figures are mean ± standard deviation (median) over n seeds.";
  page.tables.emplace_back("Comparison", std::move(table));
  for (const auto& group : groups) {
    page.models.push_back(section(group.name, group.runs.front()));
  }
  return page;
}

}  // namespace moekit::train
