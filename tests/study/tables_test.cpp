// Everything that is printed of one outcome, whole: it has at least one of whatever a table can
// show.
#include "moekit/study/tables.h"

#include <gtest/gtest.h>

#include <limits>

#include "moekit/study/record.h"
#include "tests/support/expected_file.h"

namespace moekit::study {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

const Study& shown_study() {
  static const Study study = parse_study(parse_toml(R"(
title = "A study"
source = "An author 2020, table 1"
reference = "another program's"
notes = ["first note", "second note"]
figure = [
  { name = "error", title = "error", pointer = "/error", better = "lower", margin = 0.01 },
  { name = "steps", title = "steps until it is learned", pointer = "/steps", statistic = "median" },
  { name = "found", title = "found", pointer = "/found", statistic = "proportion" },
  { name = "never", title = "never told", pointer = "/validation/error", better = "lower" },
  { name = "load", title = "load", pointer = "/load", better = "higher", conditional = true },
]
[[row]]
name = "g/a"
label = "a | b"
tier = "quick"
recipe = "a.toml"
paper = { error = 0.25, load = 0.1 }
reference = { error = 0.3 }
[[row]]
name = "g/b"
label = "second"
tier = "quick"
recipe = "b.toml"
expect = "worse"
paper = { error = 0.9, steps = 70 }
[[row]]
name = "g/c"
tier = "quick"
recipe = "c.toml"
paper = { error = 0.5 }
[[row]]
name = "h/a"
label = "second"
tier = "quick"
recipe = "d.toml"
[[row]]
name = "h/b"
tier = "quick"
recipe = "e.toml"
[[tune]]
rows = ["h/a", "h/b"]
grid = { lr = [0.1, 0.2] }
figure = "never"
seeds = 2
[[claim]]
text = "a has a lower error than b"
source = "table 1 | row 1"
tier = "quick"
check = [{ left = "g/a.error", op = "<", right = "g/b.error" }]
[[claim]]
text = "a is twice as good and takes few steps"
source = "page 3"
tier = "quick"
check = [
  { left = "g/a.error", op = "<=", right = "g/b.error", factor = 0.5, offset = -0.1 },
  { left = "g/a.steps", op = "<", offset = 1000 },
]
[[claim]]
text = "b finds it more often"
source = "page 4"
tier = "quick"
check = [{ left = "g/b.found", op = ">", right = "g/a.found" }]
[[claim]]
text = "c is there"
source = "page 5"
tier = "quick"
check = [{ left = "g/c.error", op = ">", right = "g/a.error" }]
[[claim]]
text = "h's rows are alike"
source = "[inferred]"
tier = "quick"
check = [{ left = "h/a.error", op = ">=", right = "h/b.error" }]
)",
                                                    "study.toml"),
                                         {});
  return study;
}

/// Runs of seeds 1, 2, ...: a list of values a figure.
RowRuns runs_of(const std::map<std::string, std::vector<double>>& values) {
  RowRuns runs;
  const size_t count = values.begin()->second.size();
  for (size_t i = 0; i < count; ++i) {
    SeedRun& run = runs.seeds.emplace_back();
    run.seed = static_cast<int64_t>(i) + 1;
    run.folder = concat("out/seed", run.seed);
    run.maker = {"1", "2", "m"};
    for (const auto& [figure, list] : values) {
      if (figure != "load" || !std::isnan(list[i])) run.values[figure] = list[i];
    }
  }
  return runs;
}

Outcome shown_outcome() {
  const Study& study = shown_study();
  Outcome out;
  out.tier = out.request.tier = "quick";
  out.request.paper = "shown";
  out.request.set = {"a=1"};
  out.request.seeds = 6;
  out.set = {"b=2", "a=1"};
  out.seeds = 6;
  out.looks = 3;
  out.command = command_of(out.request, out.seeds);
  std::vector<RowRuns> runs = {
      runs_of({{"error", {0.24, 0.26, 0.25, 0.24, 0.26, 0.25}},
               {"steps", {10, 20, 30, 40, 50, 2000}},
               {"found", {1, 0, 1, 1, 0, 1}},
               {"load", {0.5, kNone, 0.6, 0.55, 0.5, 0.52}}}),
      runs_of({{"error", {0.5, 0.52, 0.51, 0.49, 0.5, 0.48}},
               {"steps", {60, 61, 62, 63, 64, 65}},
               {"found", {1, 1, 1, 1, 1, 1}}}),
      runs_of({{"error", {0.5, kNone, 0.4, 0.3, 0.4, 0.3}}}),
      runs_of({{"error", {0.00012, 0.00013, 0.00014, 0.00015, 0.00012, 0.00013}}}),
      runs_of({{"error", {0.00012, 0.00014, 0.00013, 0.00015, 0.00013, 0.00012}}}),
  };
  for (size_t i = 0; i < 3; ++i) runs[i].data = i == 1 ? "kmnist" : "mnist";
  runs[3].data = "own";
  runs[3].usual_data = "usual";
  runs[4].usual_data = "usual";
  runs[2].seeds[3].missing = runs[2].seeds[5].missing = "not run";
  runs[2].seeds[4].missing = "failed: killed";
  runs[4].seeds[0].missing = "not finished";
  for (size_t i = 0; i < runs.size(); ++i) {
    out.rows.push_back(summarize_row(study.row[i], study.figure, runs[i]));
  }
  for (const auto& [row, set, value, count, missing] :
       std::vector<std::tuple<const char*, const char*, double, size_t, const char*>>{
           {"h/a", "lr=0.1", 0.2, 2, ""},
           {"h/a", "lr=0.2", 0.1, 2, ""},
           {"h/b", "lr=0.1", 0.3, 2, ""},
           {"h/b", "lr=0.2", kNone, 0, "seed 1: failed | twice"}}) {
    Trial& trial = out.trials.emplace_back();
    trial.row = row;
    trial.set = {set, "wd=0"};
    trial.figure.value = value;
    trial.figure.count = count;
    trial.missing = missing;
    trial.chosen = value == 0.1 || value == 0.3;
  }
  judge_all(study, out);
  return out;
}

std::string lines_of(const report::Table& table) {
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    for (const auto& cell : cells) out += cell + "\t";
    out += "\n";
  };
  line(table.header);
  for (const auto& row : table.rows) line(row);
  return out;
}

std::string lines_of(const report::IntervalPlot& plot) {
  std::string out = concat(plot.title, "\t", plot.left, "\t", plot.right, "\n");
  for (const auto& row : plot.rows) {
    out += concat(row.claim, "\t", row.comparison, "\t", row.value, "\t", row.low, "\t", row.high,
                  "\t", static_cast<int>(row.mark), "\t", row.verdict, "\n");
  }
  return out;
}

std::string lines_of(const std::vector<report::StripPlot>& plots) {
  std::string out;
  for (const auto& plot : plots) {
    out += plot.title + "\n";
    for (const auto& strip : plot.strips) {
      out += concat("\t", strip.label, "\tpaper ", strip.paper.value_or(-1), "\treference ",
                    strip.reference.value_or(-1));
      for (const double value : strip.values) out += concat("\t", value);
      out += "\n";
    }
  }
  return out;
}

TEST(Tables, PrintAnOutcomeAsBefore) {
  const Outcome outcome = shown_outcome();
  expect_file("study/expected/outcome.txt", to_text(shown_study(), outcome));
  expect_file("study/expected/outcome.md", to_markdown(shown_study(), outcome));
  expect_file("study/expected/outcome.json", to_json(shown_study(), outcome).dump(1) + "\n");
}

TEST(Tables, FillAPageAsBefore) {
  const Outcome outcome = shown_outcome();
  expect_file("study/expected/page.txt", lines_of(figure_table(shown_study(), outcome)) + "\n" +
                                             lines_of(claim_table(outcome)) + "\n" +
                                             lines_of(claim_plot(outcome)) + "\n" +
                                             lines_of(seed_plots(shown_study(), outcome)));
}

TEST(Tables, WithoutComparisonClaimsAndNotesThereIsLess) {
  Study study = shown_study();
  study.notes.clear();
  study.reference.clear();
  study.claim.clear();
  Outcome outcome;
  outcome.tier = "quick";
  outcome.command = "moekit reproduce x";
  outcome.rows = {shown_outcome().rows[3], shown_outcome().rows[3]};
  for (auto& run : outcome.rows[1].runs.seeds) run.missing = "not run";
  outcome.rows[1] = summarize_row(study.row[4], study.figure, outcome.rows[1].runs);
  judge_all(study, outcome);
  expect_file("study/expected/short.txt", to_text(study, outcome));
  expect_file("study/expected/short.md", to_markdown(study, outcome));
}

TEST(Record, GivesTheOutcomeAgain) {
  const Outcome outcome = shown_outcome();
  const auto file =
      std::filesystem::temp_directory_path() / concat("moekit-record-", ::getpid(), ".json");
  write_json(file, to_record(outcome));
  const Outcome again = read_record(shown_study(), file);
  EXPECT_EQ(to_record(again).dump(), to_record(outcome).dump());  // NaN is null there
  EXPECT_EQ(to_markdown(shown_study(), again), to_markdown(shown_study(), outcome));
  EXPECT_EQ(to_text(shown_study(), again), to_text(shown_study(), outcome));
  EXPECT_TRUE(again.rows[0].folders().empty());  // a record knows of none
  std::filesystem::remove(file);
}

TEST(Record, IsWrittenAsBefore) {
  expect_file("study/expected/record.json", to_record(shown_outcome()).dump(1) + "\n");
}

}  // namespace
}  // namespace moekit::study
