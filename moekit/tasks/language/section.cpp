#include "moekit/tasks/language/section.h"

#include <fmt/format.h>

#include "moekit/core/files.h"
#include "moekit/core/schema.h"
#include "moekit/run/report.h"
#include "moekit/run/run_folder.h"

namespace moekit::language {
namespace fs = std::filesystem;
namespace {

Schema judged_schema() {
  const auto domain = Schema::object({{"loss", Schema::figure(0)},
                                      {"bits_per_byte", Schema::figure(0)},
                                      {"tokens", Schema::count()},
                                      {"accuracy", Schema::figure(0), false}});
  const auto layer = Schema::object({{"usage", Schema::list(Schema::figure(0))},
                                     {"usage_entropy", Schema::figure(0)},
                                     {"max_violation", Schema::figure()},
                                     {"by_domain", Schema::map(Schema::list(Schema::figure(0)))}});
  return Schema::object({{"loss", Schema::figure(0)},
                         {"max_violation", Schema::figure()},
                         {"domains", Schema::map(domain)},
                         {"layers", Schema::map(layer)}});
}

Schema routes_schema() {
  const auto shares = Schema::list(Schema::list(Schema::figure(0)));
  const auto flow =
      Schema::object({{"from", Schema::text()}, {"to", Schema::text()}, {"shares", shares}});
  const auto together = Schema::object({{"layer", Schema::text()}, {"shares", shares}});
  const auto point = Schema::object({{"step", Schema::count()}, {"value", Schema::figure(0)}});
  const auto saturation = Schema::object(
      {{"layer", Schema::text()}, {"random", Schema::figure(0)}, {"points", Schema::list(point)}});
  return Schema::object({{"flow", Schema::list(flow), false},
                         {"coactivation", Schema::list(together), false},
                         {"saturation", Schema::list(saturation), false}});
}

/// metrics.jsonl, checked before anything is made of it.
std::vector<Json> read_run_metrics(const fs::path& run) {
  static const Schema kSchema =
      Schema::object({{"epoch", Schema::count()}, {"test", judged_schema()}});
  return run::read_metrics(run, kSchema);
}

/// Of the lines' figures that stand at these places; JSON pointers of domains and layers.
std::vector<std::pair<std::string, std::string>> places(const Json& summary, const char* of,
                                                        const char* figure) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& [name, item] : summary["test"][of].items()) {
    // A name may hold what a pointer's syntax takes for its own.
    const Json::json_pointer at = Json::json_pointer("/test") / std::string(of) / name / figure;
    out.emplace_back(name, at.to_string());
  }
  return out;
}

/// Which share of a domain's tokens (row) each expert gets.
report::HeatMap domain_map(const std::string& layer, const Json& item) {
  report::HeatMap map;
  map.title = "Which expert gets a domain, " + layer;
  map.print_values = true;
  map.column_title = "expert";
  for (size_t e = 0; e < item["usage"].size(); ++e) {
    map.column_labels.push_back(std::to_string(e));
  }
  const auto add = [&](const std::string& name, const Json& shares) {
    map.row_labels.push_back(name);
    map.values.emplace_back();
    // A damaged file may have any lengths.
    for (size_t e = 0; e < map.column_labels.size(); ++e) {
      map.values.back().push_back(e < shares.size() ? figure_value(shares[e]) : 0.0);
    }
  };
  for (const auto& [domain, shares] : item["by_domain"].items()) add(domain, shares);
  add("all", item["usage"]);
  map.set_off_last_row = true;
  return map;
}

/// A square or oblong table of shares, experts by experts.
report::HeatMap experts_map(const std::string& title, const std::string& columns,
                            const Json& shares) {
  report::HeatMap map;
  map.title = title;
  map.print_values = shares.size() <= 16;
  map.column_title = columns;
  size_t width = 0;
  for (const auto& row : shares) width = std::max(width, row.size());
  for (size_t e = 0; e < width; ++e) map.column_labels.push_back(std::to_string(e));
  for (const auto& row : shares) {
    map.row_labels.push_back(std::to_string(map.row_labels.size()));
    map.values.emplace_back();
    for (size_t e = 0; e < width; ++e) {
      map.values.back().push_back(e < row.size() ? figure_value(row[e]) : 0.0);
    }
  }
  return map;
}

/// Where tokens go from mixture to mixture, which experts they have together, and since when.
void add_routes(const Json& routes, report::ModelSection& section) {
  for (const auto& flow : routes.value("flow", Json::array())) {
    const auto from = flow["from"].get<std::string>();
    const auto to = flow["to"].get<std::string>();
    section.heat_maps.push_back(
        experts_map(fmt::format("Where an expert's tokens of {} go in {}", from, to),
                    "expert of " + to, flow["shares"]));
  }
  for (const auto& layer : routes.value("coactivation", Json::array())) {
    section.heat_maps.push_back(experts_map(
        "Which experts an expert's tokens have besides, " + layer["layer"].get<std::string>(),
        "expert", layer["shares"]));
  }
  report::Chart chart{"Final choices that were already made", "step", {}, {}, false, "share"};
  for (const auto& layer : routes.value("saturation", Json::array())) {
    report::Series series{layer["layer"].get<std::string>(), {}};
    chart.x.clear();  // the same of every mixture
    for (const auto& point : layer["points"]) {
      chart.x.push_back(point["step"].get<double>());
      series.values.push_back(figure_value(point["value"]));
    }
    chart.series.push_back(std::move(series));
  }
  if (!chart.series.empty()) section.charts.push_back(std::move(chart));
}

}  // namespace

Json read_run_summary(const fs::path& run) {
  static const Schema kSchema = Schema::object({{"seed", Schema::count()},
                                                {"parameters", Schema::count()},
                                                {"causal", Schema::boolean()},
                                                {"test", judged_schema()}});
  return run::read_summary(run, kSchema);
}

report::ModelSection make_section(const std::string& title, const fs::path& run) {
  const Json summary = read_run_summary(run);
  const auto lines = read_run_metrics(run);
  report::ModelSection section;
  section.title = title;
  section.subtitle =
      fmt::format("loss {:.3f} nats a token, {} parameters", figure_value(summary["test"]["loss"]),
                  summary["parameters"].get<int64_t>());
  if (!summary["causal"].get<bool>()) {
    section.subtitle += "; its router looks at later tokens, so that nothing is foretold";
  }
  section.place = fmt::format("seed {}, {}", summary["seed"].get<int64_t>(), run.string());
  section.shows = "each map shows which expert of the last mixture gets which domain's tokens";
  section.recipe = read_file(run / "config.toml", 1 << 24);
  // Of adapters a token has most often all: who gets what says nothing.
  const bool has_adapters = summary.contains("expert_cosine");
  const Json layers = has_adapters ? Json::object() : summary["test"]["layers"];
  size_t left = layers.size();
  for (const auto& [name, item] : layers.items()) {
    auto map = domain_map(name, item);
    (--left == 0 ? section.overview_maps : section.heat_maps).push_back(std::move(map));
  }
  if (layers.empty()) {
    section.shows = "each chart shows how well the next token is foretold";
    section.overview_charts.push_back(
        run::chart_of("Loss on judged texts", "nats a token", lines, {{"loss", "/test/loss"}}));
  }
  // Before the first step there is no training loss.
  std::vector<Json> trained;
  for (const auto& line : lines) {
    if (line.contains("train_loss")) trained.push_back(line);
  }
  section.charts.push_back(run::chart_of("Loss", "nats a token", trained,
                                         {{"training", "/train_loss"}, {"judged", "/test/loss"}}));
  section.charts.push_back(run::chart_of("Bits per byte of each domain", "bits", lines,
                                         places(summary, "domains", "bits_per_byte")));
  if (summary["test"].contains("accuracy")) {
    section.charts.push_back(run::chart_of("Accuracy of each domain's answers", "share", lines,
                                           places(summary, "domains", "accuracy")));
  }
  if (layers.empty()) return section;
  // Runs of older versions, and of adapters, have none.
  if (fs::exists(run / "routes.json")) {
    static const Schema kRoutes = routes_schema();
    const fs::path file = run / "routes.json";
    const Json routes = read_json(file);
    kRoutes.check(routes, file.string());
    add_routes(routes, section);
  }
  const fs::path texts = run / "texts.json";
  section.texts = report::routed_texts_of(read_json(texts), texts.string());
  section.charts.push_back(run::chart_of("How far the fullest expert is above the mean", "MaxVio",
                                         lines, places(summary, "layers", "max_violation")));
  section.charts.push_back(run::chart_of("Entropy of the experts' usage", "bits", lines,
                                         places(summary, "layers", "usage_entropy")));
  return section;
}

}  // namespace moekit::language
