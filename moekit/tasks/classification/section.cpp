#include "moekit/tasks/classification/section.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "moekit/core/files.h"
#include "moekit/core/schema.h"
#include "moekit/run/report.h"
#include "moekit/tasks/classification/inspection.h"
#include "moekit/tasks/classification/run_files.h"

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

/// Counts of labels, [labels][experts] or [labels][predicted].
using Counts = std::vector<std::vector<double>>;

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

/// Rows of a count table divided by their sums.
Counts row_shares(Counts counts) {
  for (auto& row : counts) {
    const double sum = sum_of(row);
    for (double& value : row) value = sum > 0 ? value / sum : 0;
  }
  return counts;
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
    sheet.caption =
        fmt::format("expert {}: {:.1f} %", e, 100 * inspected["usage"][e].get<double>());
    std::vector<report::Bitmap> tiles;
    for (const int64_t index : favourites[e]) tiles.push_back(bitmap_of(data.test.images[index]));
    if (!tiles.empty()) {
      sheet.data_uri = report::png_data_uri(report::contact_sheet(tiles, kSheetColumns));
    }
    sheets.push_back(std::move(sheet));
  }
  return sheets;
}

/// A run that was not trained has nothing over time.
void add_chart(report::ModelSection& section, report::Chart chart) {
  if (chart.x.empty() || chart.series.empty()) return;
  section.charts.push_back(std::move(chart));
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
                        true,
                        "epoch"};
    map.values.resize(static_cast<size_t>(experts));
    for (const auto* line : shown) {
      // Experts may have come and gone on the way, and a damaged file may have any lengths.
      const auto shares = row_shares((*line)[counts].get<Counts>());
      for (size_t e = 0; e < map.values.size(); ++e) {
        const bool known = k < shares.size() && e < shares[k].size();
        map.values[e].push_back(known ? shares[k][e] : 0.0);
      }
    }
    section.heat_maps.push_back(std::move(map));
  }
}

/// Largest alignment with each kind of true direction over time, for experts and router.
void add_alignment_charts(report::ModelSection& section, const std::vector<Json>& lines) {
  for (const char* part : {"experts", "router"}) {
    report::Chart chart{fmt::format("Alignment of the {} with the true directions", part),
                        "epoch",
                        {},
                        {},
                        false,
                        "largest |cosine|"};
    std::map<std::string, std::vector<double>> series;
    for (const auto& line : lines) {
      const Json::json_pointer at(fmt::format("/alignment/{}", part));
      if (!line.contains(at)) continue;
      chart.x.push_back(line["epoch"].get<double>());
      for (const auto& [name, table] : line[at].items()) {
        double largest = 0;
        for (const auto& row : table) {
          for (const auto& value : row) largest = std::max(largest, std::abs(figure_value(value)));
        }
        series[name].push_back(largest);
      }
    }
    for (auto& [name, values] : series) chart.series.push_back({"largest with " + name, values});
    add_chart(section, std::move(chart));
  }
}

/// Experts in the order of the classes they get, so that maps of different runs can be compared
/// though the numbers of their experts mean nothing. Experts without a sample come last.
/// @param shares  [classes][experts]
std::vector<size_t> class_order(const Counts& shares, size_t experts) {
  std::vector<double> centre(experts, 0);
  for (size_t e = 0; e < experts; ++e) {
    double sum = 0;
    for (size_t c = 0; c < shares.size(); ++c) {
      sum += shares[c][e];
      centre[e] += static_cast<double>(c) * shares[c][e];
    }
    centre[e] = sum > 0 ? centre[e] / sum : static_cast<double>(shares.size());
  }
  std::vector<size_t> order(experts);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return centre[a] < centre[b]; });
  return order;
}

/// Who gets which class, the picture that runs are compared by; the last row is all classes
/// together.
report::HeatMap class_map(const Counts& counts, const std::vector<size_t>& order,
                          const RunData& data) {
  report::HeatMap map{"Which expert gets a class", data.class_names, {}, {}, true, "expert"};
  map.row_labels.emplace_back("all");
  map.print_values = data.class_names.size() <= 20;
  map.value_title = "of the class's test images";
  map.set_off_last_row = true;
  Counts rows = counts;
  rows.emplace_back(order.size(), 0.0);
  for (const auto& row : counts) {
    for (size_t e = 0; e < row.size(); ++e) rows.back()[e] += row[e];
  }
  map.values.resize(rows.size());
  const auto shares = row_shares(rows);
  for (const size_t e : order) {
    map.column_labels.push_back(std::to_string(e));
    for (size_t r = 0; r < shares.size(); ++r) map.values[r].push_back(shares[r][e]);
  }
  return map;
}

/// Who gets which cluster, at the end and over time.
void add_heat_maps(report::ModelSection& section, const Json& item, const std::string& at,
                   const std::vector<Json>& lines) {
  const auto experts = item["experts"].get<int64_t>();
  if (item.contains("by_cluster")) {
    const auto counts = item["by_cluster"]["counts"].get<Counts>();
    section.heat_maps.push_back({"Which expert gets a true cluster (row), percent",
                                 expert_names(static_cast<int64_t>(counts.size())),
                                 expert_names(experts), row_shares(counts), true, "expert"});
  }
  add_cluster_maps(section, at, lines, experts);
}

/// Entropies, usage and saturation over time.
void add_charts(report::ModelSection& section, const Json& item, const std::string& at,
                const std::vector<Json>& lines) {
  add_chart(section, run::chart_of("Entropies over time", "bit", lines,
                                   {{"I(E;Y)", at + "mutual_information"},
                                    {"H_u, usage", at + "usage_entropy"},
                                    {"H_s, sample", at + "sample_entropy"}}));
  std::vector<std::pair<std::string, std::string>> usage;
  for (int64_t e = 0; e < item["experts"].get<int64_t>(); ++e) {
    usage.emplace_back(fmt::format("expert {}", e), fmt::format("{}usage/{}", at, e));
  }
  auto chart = run::chart_of("Usage over time", "share of the test images", lines, usage);
  chart.stacked = true;
  add_chart(section, std::move(chart));
  if (!item.contains("saturation_over_time")) return;
  report::Chart saturation{"Final choices already made", "step", {}, {}, false, "share"};
  saturation.series.push_back({"saturation", {}});
  for (const auto& point : item["saturation_over_time"]) {
    saturation.x.push_back(point["step"].get<double>());
    saturation.series[0].values.push_back(point["value"].get<double>());
  }
  section.charts.push_back(std::move(saturation));
}

constexpr double kThinRow = 0.05;  // of a class's images: below, shares would be those of a few

/// What each expert takes a class for, and a summary: how often it is wrong, by class and expert.
/// @param confusion  [experts] of [classes][predicted] counts
void add_confusion(report::ModelSection& section, const std::vector<Counts>& confusion,
                   const std::vector<size_t>& order, const RunData& data) {
  const auto& names = data.class_names;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  report::HeatMap errors;
  errors.title = "How often an expert (column) is wrong on a class (row), percent";
  errors.row_labels = names;
  errors.values.resize(names.size());
  errors.print_values = names.size() <= 20;
  errors.column_title = "expert";
  errors.shades = report::Shades::kSecond;
  for (const size_t e : order) {
    report::HeatMap map{fmt::format("expert {}", e), names, names,
                        row_shares(confusion[e]),    false, "taken for"};
    map.shades = report::Shades::kSecondBesideDiagonal;
    errors.column_labels.push_back(std::to_string(e));
    bool empty = true;
    for (size_t c = 0; c < names.size(); ++c) {
      const double given = sum_of(confusion[e][c]);
      double of_all = 0;
      for (const auto& expert : confusion) of_all += sum_of(expert[c]);
      const bool thin = given == 0 || given < kThinRow * of_all;
      errors.values[c].push_back(thin ? nan : 1 - map.values[c][c]);
      if (thin) map.values[c].assign(names.size(), nan);
      empty = empty && thin;
    }
    if (!empty) section.confusion.push_back(std::move(map));
  }
  section.heat_maps.push_back(std::move(errors));
  section.confusion_text = fmt::format(
      "What an expert takes a class (row) for, of the class's images that it is given: rightly "
      "(blue) and wrongly (orange). Classes of which it gets less than {:.0f} % are left out.",
      100 * kThinRow);
}

/// What each expert is given most.
void add_images(report::ModelSection& section, const metrics::LayerTrace& layer, const Json& item,
                const std::vector<size_t>& order, const RunData& data) {
  if (data.test.images.is_floating_point()) return;  // numbers are no pictures
  const auto sheets = sheets_of(layer, data, item);
  for (const size_t e : order) section.sheets.push_back(sheets[e]);
}

/// Everything about one layer.
void add_layer(report::ModelSection& section, const metrics::LayerTrace& layer, const Json& item,
               const RunData& data, const std::vector<Json>& lines) {
  const std::string at = "/test/layers/" + layer.name + "/";
  const auto counts = item["by_label"]["counts"].get<Counts>();
  const auto order = class_order(row_shares(counts), static_cast<size_t>(layer.num_experts()));
  section.overview_maps.push_back(class_map(counts, order, data));
  add_heat_maps(section, item, at, lines);
  add_charts(section, item, at, lines);
  add_images(section, layer, item, order, data);
  if (item.contains("confusion")) {
    add_confusion(section, item["confusion"].get<std::vector<Counts>>(), order, data);
  }
}

}  // namespace

report::ModelSection make_section(const std::string& title, const fs::path& folder,
                                  const RunData& data) {
  const Json summary = read_run_summary(folder);
  const Json inspected = inspect_run(folder, data);
  const auto trace = read_run_trace(folder, data);
  const auto lines = read_run_metrics(folder);
  report::ModelSection section;
  section.title = title;
  section.subtitle = fmt::format("test error {:.4f}", inspected["error"].get<double>());
  for (const auto& layer : trace.layers) {
    const Json::json_pointer at("/test/layers/" + layer.name + "/mutual_information");
    if (!summary.contains(at)) continue;
    section.subtitle += fmt::format(", I(E;Y) {:.3g} bit", figure_value(summary[at]));
  }
  section.place = fmt::format("{}, seed {}, {}", inspected["data"].get<std::string>(),
                              inspected["seed"].get<int64_t>(), folder.string());
  section.recipe = read_file(folder / "config.toml", 1 << 24);
  add_chart(section, run::chart_of("Error over time", "share of the images", lines,
                                   {{"training", "/train_error"}, {"test", "/test/error"}}));
  add_alignment_charts(section, lines);
  for (size_t l = 0; l < trace.layers.size(); ++l) {
    add_layer(section, trace.layers[l], inspected["layers"][l], data, lines);
    if (trace.layers.size() > 1) {
      section.overview_maps.back().column_title = "expert of " + trace.layers[l].name;
    }
  }
  if (!trace.layers.empty()) {
    section.shows =
        "each map shows which share of a class's test images (row) each expert (column) is given";
  }
  return section;
}

}  // namespace moekit::classification
