#include "moekit/tasks/classification/section.h"

#include <fmt/format.h>

#include <algorithm>

#include "moekit/core/files.h"
#include "moekit/run/report.h"
#include "moekit/tasks/classification/inspection.h"

namespace moekit::classification {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kSheetImages = 36;
constexpr int64_t kSheetColumns = 6;

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

/// Who gets which class and which cluster, at the end and over time.
void add_heat_maps(report::ModelSection& section, const Json& item, const RunData& data,
                   const std::string& at, const std::vector<Json>& lines) {
  const auto experts = item["experts"].get<int64_t>();
  section.heat_maps.push_back(
      {"Which expert gets a class (rows, percent of the class's test images)", data.class_names,
       expert_names(experts), row_shares(item["by_label"]["counts"]),
       data.class_names.size() <= 20});
  if (item.contains("by_cluster")) {
    const auto& counts = item["by_cluster"]["counts"];
    section.heat_maps.push_back({"Which expert gets a true cluster (percent)",
                                 expert_names(static_cast<int64_t>(counts.size())),
                                 expert_names(experts), row_shares(counts), true});
  }
  add_cluster_maps(section, at, lines, experts);
}

/// Entropies, usage and saturation over time.
void add_charts(report::ModelSection& section, const Json& item, const std::string& at,
                const std::vector<Json>& lines) {
  section.charts.push_back(run::chart_of("Entropies over time (bit)", lines,
                                         {{"I(E;Y)", at + "mutual_information"},
                                          {"H_u, usage", at + "usage_entropy"},
                                          {"H_s, sample", at + "sample_entropy"}}));
  std::vector<std::pair<std::string, std::string>> usage;
  for (int64_t e = 0; e < item["experts"].get<int64_t>(); ++e) {
    usage.emplace_back(fmt::format("expert {}", e), fmt::format("{}usage/{}", at, e));
  }
  auto chart = run::chart_of("Usage over time", lines, usage);
  chart.stacked = true;
  if (!chart.series.empty()) section.charts.push_back(std::move(chart));
  if (!item.contains("saturation_over_time")) return;
  report::Chart saturation{"Share of the final choices already made", "step", {}, {}, false};
  saturation.series.push_back({"saturation", {}});
  for (const auto& point : item["saturation_over_time"]) {
    saturation.x.push_back(point["step"].get<double>());
    saturation.series[0].values.push_back(point["value"].get<double>());
  }
  section.charts.push_back(std::move(saturation));
}

/// What each expert is given most, and what it takes for what.
void add_images(report::ModelSection& section, const metrics::LayerTrace& layer, const Json& item,
                const RunData& data) {
  if (data.test.images.is_floating_point()) return;  // numbers are no pictures
  for (auto& sheet : sheets_of(layer, data, item)) section.sheets.push_back(std::move(sheet));
  if (!item.contains("confusion")) return;
  for (size_t e = 0; e < item["confusion"].size(); ++e) {
    section.confusion.push_back({fmt::format("expert {}", e), data.class_names, data.class_names,
                                 row_shares(item["confusion"][e]), false});
  }
}

}  // namespace

report::ModelSection make_section(const std::string& title, const fs::path& folder,
                                  const RunData& data) {
  const Json inspected = inspect_run(folder, data);
  const auto trace = metrics::read_trace(folder / "trace.safetensors");
  const auto lines = run::read_metrics(folder);
  report::ModelSection section;
  section.title = title;
  section.subtitle = fmt::format(
      "{}, seed {}, test error {:.4f}; run folder {}", inspected["data"].get<std::string>(),
      inspected["seed"].get<int64_t>(), inspected["error"].get<double>(), folder.string());
  section.recipe = read_file(folder / "config.toml", 1 << 24);
  section.charts.push_back(run::chart_of("Error over time", lines,
                                         {{"training", "/train_error"}, {"test", "/test/error"}}));
  add_alignment_charts(section, lines);
  for (size_t l = 0; l < trace.layers.size(); ++l) {
    const std::string at = "/test/layers/" + trace.layers[l].name + "/";
    add_heat_maps(section, inspected["layers"][l], data, at, lines);
    add_charts(section, inspected["layers"][l], at, lines);
    add_images(section, trace.layers[l], inspected["layers"][l], data);
  }
  return section;
}

}  // namespace moekit::classification
