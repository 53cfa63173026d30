// What a finished run shows: inspection, event files, the page.
#include <gtest/gtest.h>

#include <csignal>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/events/event_log.h"
#include "moekit/events/record_file.h"
#include "moekit/run/report.h"
#include "moekit/run/run.h"
#include "moekit/tasks/classification/inspection.h"
#include "moekit/tasks/classification/problem.h"
#include "moekit/tasks/classification/task.h"
#include "tests/tasks/classification/run_fixture.h"

namespace moekit::classification {
namespace {
namespace fs = std::filesystem;
using run::read_metrics;
using run::read_summary;
using run::RunStatus;

TEST_F(RunTest, WritesWhatAFinishedRunNeedsAndInspectsIt) {
  run_recipe(config_, options("a"));
  const Json summary = read_summary(folder_ / "a");
  EXPECT_EQ(summary["epochs"], 4);
  EXPECT_EQ(read_metrics(folder_ / "a").size(), 4U);
  const Json inspected =
      inspect_run(folder_ / "a", load_run_data(config_, ""), (folder_ / "a").string());
  const Json& layer = inspected["layers"][0];
  EXPECT_EQ(layer["router_saturation"], 1.0);
  EXPECT_EQ(layer["by_cluster"]["counts"].size(), 4U);
  double shares = 0;
  for (const auto& share : layer["usage"]) shares += share.get<double>();
  EXPECT_NEAR(shares, 1, 1e-9);
  EXPECT_EQ(layer["output_cka_estimator"], "unbiased");
  EXPECT_EQ(layer["subset_retention"]["baseline_subsets"], 4);  // of 1 of 4 experts
  EXPECT_EQ(layer["subset_retention"]["baseline_exact"], true);
  const auto html = report::render(run::make_report(
      run::group_by_recipe({folder_ / "a"}),
      [](const fs::path&) -> const run::Task& { return task(); }, ""));
  EXPECT_NE(html.find("Which expert gets a true cluster"), std::string::npos);
  EXPECT_NE(html.find("data:image/png;base64,"), std::string::npos);
}

/// Writes a run's trace anew, changed.
template <typename Change>
void change_trace(const fs::path& folder, Change change) {
  const fs::path path = folder / "trace.safetensors";
  auto trace = metrics::read_trace(path);
  change(trace);
  metrics::write_trace(folder / "changed", trace);
  fs::rename(folder / "changed", path);
}

TEST_F(RunTest, InspectionRefusesATraceThatDoesNotFitTheRun) {
  config_.train.loop.keep_every = 2;
  run_recipe(config_, options("a"));
  const auto data = load_run_data(config_, "");
  fs::copy(folder_ / "a", folder_ / "b", fs::copy_options::recursive);
  const auto refusal = [&](auto change) -> std::string {
    fs::copy_file(folder_ / "b" / "trace.safetensors", folder_ / "a" / "trace.safetensors",
                  fs::copy_options::overwrite_existing);
    change_trace(folder_ / "a", change);
    try {
      inspect_run(folder_ / "a", data);
    } catch (const FormatError& error) {
      return error.what();
    }
    return "no error";
  };
  const std::string file = (folder_ / "a" / "trace.safetensors").string();
  EXPECT_EQ(refusal([](auto& t) { t.labels.erase("predicted"); }),
            file + ": labels.predicted is missing");
  EXPECT_EQ(refusal([](auto& t) { t.labels["label"].fill_(7); }),
            file + ": labels.label has 7 at [0]; wanted 0..1");
  EXPECT_EQ(refusal([](auto& t) {
              for (auto& [name, labels] : t.labels) labels = labels.slice(0, 0, 10);
              auto& layer = t.layers[0];
              layer = {layer.name, torch::arange(10), torch::zeros({10}, torch::kLong),
                       layer.probs.slice(0, 0, 10)};
              t.expert_log_probs = t.expert_log_probs.slice(1, 0, 10);
            }),
            file + ": labels.label is of 10 images; the run is tested on 1000");
  EXPECT_EQ(refusal([](auto& t) {
              t.expert_log_probs = t.expert_log_probs.repeat({1, 1, 2});
            }),
            file + ": expert_log_probs is of 4 classes; the run has 2");
  EXPECT_EQ(refusal([](auto& t) { t.labels["cluster"].fill_(2'000'000'000); }),
            file + ": labels.cluster has 2000000000 at [0]; wanted 0..3");
  // More layers than the model has: once a read beyond the end.
  EXPECT_NE(refusal([](auto& t) {
              t.layers.push_back(t.layers[0]);
              t.layers[1].name = "other";
            }).find(": layer other of 4 experts is none of the model's"),
            std::string::npos);
  // Experts whose outputs do not vary: no similarity, and no refusal.
  EXPECT_EQ(refusal([](auto& t) { t.expert_log_probs.fill_(-0.7); }), "no error");
  const Json constant = inspect_run(folder_ / "a", data)["layers"][0];
  EXPECT_EQ(constant["output_cka_left_out"], 6);
  EXPECT_EQ(Json::parse(constant.dump())["output_cka_mean"], Json());
  // Another run's trace.
  EXPECT_NE(refusal([](auto&) {}).find("no error"), std::string::npos);
  change_trace(folder_ / "b", [](auto& t) { t.layers[0].name = "other"; });
  EXPECT_THROW(inspect_run(folder_ / "a", data, (folder_ / "b").string()), FormatError);
}

/// Steps and figures of a run's event files.
std::vector<std::pair<int64_t, events::Figures>> events_of(const fs::path& run) {
  std::vector<std::pair<int64_t, events::Figures>> out;
  for (const auto& file : events::list_event_files(run)) {
    events::RecordReader reader(file);
    while (const auto record = reader.next()) {
      const auto event = events::decode(*record).value();
      if (event.figures) out.emplace_back(event.step, *event.figures);
    }
    EXPECT_EQ(reader.position(), reader.size()) << file;
  }
  return out;
}

TEST_F(RunTest, WritesEventsThatEqualItsMetricsHoweverOftenItIsStopped) {
  config_.train.loop.checkpoint_steps = 3;
  int stops = 0;
  for (auto status = RunStatus::kInterrupted; status == RunStatus::kInterrupted; ++stops) {
    const InterruptGuard guard;
    if (stops < 12) std::raise(SIGINT);
    status = run_recipe(config_, options("a", stops > 0));
    // What was written after the last checkpoint, or torn by a crash, is written again.
    const auto files = events::list_event_files(folder_ / "a");
    if (!files.empty() && status == RunStatus::kInterrupted) {
      fs::resize_file(files.back(), fs::file_size(files.back()) - 5);
    }
  }
  EXPECT_GT(stops, 10);
  const auto lines = read_metrics(folder_ / "a");
  const auto found = events_of(folder_ / "a");
  ASSERT_EQ(found.size(), lines.size());
  ASSERT_EQ(lines.size(), 4U);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(found[i].first, lines[i]["step"].get<int64_t>());
    EXPECT_EQ(found[i].second, events::figures_of(lines[i]));
    ASSERT_EQ(found[i].second.histograms.size(), 1U);
    EXPECT_EQ(found[i].second.histograms[0].second,
              events::load_histogram(lines[i]["test"]["layers"]["mixture"]["usage"]));
  }
  config_.events = false;
  ASSERT_EQ(run_recipe(config_, options("without")), RunStatus::kFinished);
  EXPECT_TRUE(events::list_event_files(folder_ / "without").empty());
}

TEST_F(RunTest, APageTellsWhatWasFoundAndNamesClasses) {
  ASSERT_EQ(run_recipe(config_, options("a-seed1")), RunStatus::kFinished);
  config_.seed = 2;
  ASSERT_EQ(run_recipe(config_, options("a-seed2")), RunStatus::kFinished);
  config_.train.loop.epochs = 0;
  ASSERT_EQ(run_recipe(config_, options("b-seed1")), RunStatus::kFinished);
  const auto page = run::make_report(
      run::group_by_recipe({folder_ / "a-seed1", folder_ / "a-seed2", folder_ / "b-seed1"}),
      [](const fs::path&) -> const run::Task& { return task(); }, "");
  EXPECT_EQ(page.lead.rfind("Each map shows ", 0), 0U) << page.lead;
  // The untrained recipe has the larger error.
  EXPECT_NE(page.lead.find("the test error is lowest with “a” ("), std::string::npos) << page.lead;
  ASSERT_EQ(page.tables.size(), 1U);  // one table
  const auto& table = page.tables[0].second;
  EXPECT_EQ(table.rows[0][1], "2");
  EXPECT_NE(table.rows[0][2].find(" ± "), std::string::npos);
  EXPECT_EQ(table.rows[1][1], "1");
  for (const auto& cell : table.rows[1]) EXPECT_EQ(cell.find("±"), std::string::npos) << cell;
  const auto& model = page.models.at(0);
  const auto names = load_run_data(config_, "").class_names;
  ASSERT_EQ(model.overview_maps.size(), 1U);
  auto rows = names;
  rows.emplace_back("all");
  EXPECT_EQ(model.overview_maps[0].row_labels, rows);
  EXPECT_EQ(model.overview_maps[0].column_labels.size(), 4U);
  // Classes by expert: the shares of a class add up.
  for (const auto& row : model.overview_maps[0].values) {
    EXPECT_NEAR(row[0] + row[1] + row[2] + row[3], 1.0, 1e-6);
  }
  ASSERT_FALSE(model.confusion.empty());
  for (const auto& map : model.confusion) {
    EXPECT_EQ(map.row_labels, names);
    EXPECT_EQ(map.column_labels, names);
  }
}

TEST(Findings, NameTheRecipesThatStandOut) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const run::ReportFigure bits{"I", "", "", "bit", "most divided by", "least by"};
  const run::ReportFigure error{"error", "", "", "", "", "the error is lowest with"};
  const run::ReportFigure silent{"loss", ""};
  EXPECT_EQ(
      run::findings({bits, silent, error}, {"a", "b", "c"},
                    {{none, 2.5, 1}, {9, 8, 7}, {0.25, 0.125, 0.125}}),
      "most divided by “b” (I 2.5 bit), least by “c” (1 bit), and the error is lowest with “b” "
      "and “c” (0.125)");
  EXPECT_EQ(run::findings({bits, error}, {"a"}, {{2}, {0.5}}), "I is 2 bit and error is 0.5");
  EXPECT_EQ(run::findings({bits}, {"a"}, {{none}}), "");
}

TEST(RecipeName, LeavesTheSeedOut) {
  EXPECT_EQ(run::recipe_name("runs/original-seed3"), "original");
  EXPECT_EQ(run::recipe_name("runs/original/seed3"), "original");
  EXPECT_EQ(run::recipe_name("runs/plain"), "plain");
}

}  // namespace
}  // namespace moekit::classification
