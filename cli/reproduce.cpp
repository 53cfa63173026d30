#include <fmt/format.h>
#include <fnmatch.h>

#include <filesystem>
#include <memory>
#include <set>

#include "cli/command.h"
#include "cli/recipes.h"
#include "cli/tasks.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/data/folders.h"
#include "moekit/study/jobs.h"
#include "moekit/study/study.h"
#include "moekit/train/run.h"
#include "moekit/train/run_report.h"

namespace moekit::cli {
namespace fs = std::filesystem;
namespace {

struct ReproduceFlags {
  std::string paper;
  bool quick = false;
  bool full = false;
  int64_t seeds = 0;
  int64_t jobs = 0;
  std::string data;
  std::string out;
  std::string rows = "*";
  std::vector<std::string> set;
  std::string markdown;
  std::string report;
  bool json = false;
  bool quiet = false;
  bool table_only = false;
};

/// The recipe of a row with all its changes, to learn its data set and refuse nonsense early.
ConfigTree resolve(const fs::path& recipe, const std::vector<std::string>& set) {
  ConfigTree tree = read_toml(recipe);
  for (const auto& assignment : set) apply_override(tree, assignment);
  task_of(tree).check(tree);
  return tree;
}

std::string toml_value(const Json& value) {
  const std::string table = to_toml(Json{{"v", value}});
  return table.substr(4, table.size() - 5);  // "v = ...\n"
}

struct Plan {
  std::vector<study::Job> jobs;
  std::map<std::string, std::string> missing;  // row -> reason
};

Plan make_plan(const std::vector<study::Row>& rows, const ReproduceFlags& flags,
               const fs::path& folder, const fs::path& out, int64_t seeds,
               const std::vector<std::string>& common) {
  Plan plan;
  for (const auto& row : rows) {
    std::vector<std::string> set = row.set;
    set.insert(set.end(), common.begin(), common.end());
    const ConfigTree recipe = resolve(folder / row.recipe, set);
    const std::string needed = task_of(recipe).data_set(recipe);
    if (!needed.empty() && !data::find_dataset(data::dataset_row(needed), flags.data)) {
      plan.missing[row.name] = concat("data set ", needed, " was not found");
    }
    for (const auto& [key, other] : row.needs.items()) {
      if (const auto found = plan.missing.find(other.get<std::string>());
          found != plan.missing.end()) {
        plan.missing[row.name] = found->second;
      }
    }
  }
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  // Seed after seed, so that a run that is cut short still has whole seeds.
  for (int64_t seed = 1; seed <= seeds; ++seed) {
    for (const auto& row : rows) {
      if (plan.missing.count(row.name) == 1 || (row.seeds > 0 && seed > row.seeds)) continue;
      const fs::path run = out / row.name / fmt::format("seed{}", seed);
      study::Job job;
      job.name = fmt::format("{}/seed{}", row.name, seed);
      job.log = out / "logs" / row.name / fmt::format("seed{}.log", seed);
      job.command = {self,
                     "train",
                     (folder / row.recipe).string(),
                     "--seed",
                     std::to_string(seed),
                     "--threads",
                     "1",
                     "--quiet",
                     "--resume",
                     "--out",
                     run.string()};
      if (!flags.data.empty()) {
        job.command.insert(job.command.end(), {"--data", flags.data});
      }
      std::vector<std::string> set = row.set;
      set.insert(set.end(), common.begin(), common.end());
      for (const auto& [key, values] : row.cycle.items()) {
        const auto& value = values[static_cast<size_t>(seed - 1) % values.size()];
        set.push_back(key + "=" + toml_value(value));
      }
      for (const auto& [key, other] : row.needs.items()) {
        const std::string name = other.get<std::string>();
        job.after.push_back(fmt::format("{}/seed{}", name, seed));
        set.push_back(
            fmt::format("{}=\"{}\"", key, (out / name / fmt::format("seed{}", seed)).string()));
      }
      for (const auto& assignment : set) {
        job.command.insert(job.command.end(), {"--set", assignment});
      }
      plan.jobs.push_back(std::move(job));
    }
  }
  return plan;
}

/// The rows asked for, and those they need, in the study's order.
std::vector<study::Row> choose_rows(const study::Study& study, const std::string& tier,
                                    const std::string& pattern) {
  std::set<std::string> wanted;
  for (auto row = study.row.rbegin(); row != study.row.rend(); ++row) {
    const bool match = row->tier == tier && ::fnmatch(pattern.c_str(), row->name.c_str(), 0) == 0;
    if (!match && wanted.count(row->name) == 0) continue;
    wanted.insert(row->name);
    for (const auto& [key, other] : row->needs.items()) wanted.insert(other.get<std::string>());
  }
  std::vector<study::Row> rows;
  for (const auto& row : study.row) {
    if (wanted.count(row.name) == 1) rows.push_back(row);
  }
  return rows;
}

/// The study's own figures: ours, and the paper's in brackets.
report::Table figure_table(const study::Study& study,
                           const std::vector<study::RowResult>& results) {
  report::Table table;
  table.header = {"row", "n"};
  std::vector<std::string> shown;
  for (const auto& figure : study.figure) {
    const bool any = std::any_of(results.begin(), results.end(), [&](const auto& row) {
      return row.cells.at(figure.name).ours.count > 0;
    });
    if (!any) continue;
    shown.push_back(figure.name);
    table.header.push_back(figure.title);
  }
  for (const auto& row : results) {
    if (row.runs.empty()) continue;
    table.rows.push_back(
        {fmt::format("{} ({})", row.label, row.name), std::to_string(row.runs.size())});
    for (const auto& name : shown) {
      const auto& cell = row.cells.at(name);
      std::string text;
      if (cell.ours.count > 0) {
        text = fmt::format("{:.4g} ± {:.2g}", cell.ours.mean, cell.ours.std_dev);
        if (cell.paper) text += fmt::format(" [{:.4g}]", *cell.paper);
      }
      table.rows.back().push_back(std::move(text));
    }
  }
  return table;
}

/// The report page over all rows that were run; its path is the last line on stdout.
void write_page(const study::Study& study, const std::vector<study::RowResult>& results,
                const std::vector<study::ClaimResult>& claims, const ReproduceFlags& flags,
                const fs::path& out) {
  std::vector<train::RunGroup> groups;
  for (const auto& row : results) {
    if (row.runs.empty()) continue;
    groups.push_back({fmt::format("{} ({})", row.label, row.name), {}});
    for (const auto& run : row.runs) groups.back().runs.emplace_back(run);
  }
  if (groups.empty()) return;
  auto page = train::make_report(groups, section_maker(flags.data));
  page.title = study.title;
  page.introduction = study.source + ". " + page.introduction;
  page.tables.insert(page.tables.begin(), {"Figures: mean ± standard deviation [the paper's]",
                                           figure_table(study, results)});
  report::Table table{{"verdict", "claim", "source"}, {}};
  for (const auto& claim : claims) {
    table.rows.push_back({std::string(enum_name(claim.verdict)), claim.text, claim.source});
  }
  if (!claims.empty()) page.tables.emplace_back("Claims", std::move(table));
  const fs::path path = flags.report.empty() ? out / "report.html" : fs::path(flags.report);
  write_file_atomic(path, report::render(page));
  if (!flags.json) fmt::print("\n{}\n", fs::absolute(path).string());
}

void run(const ReproduceFlags& flags, int& exit_code) {
  MOEKIT_CHECK(!(flags.quick && flags.full), "reproduce: --quick and --full exclude each other");
  const fs::path folder = find_study(flags.paper);
  const study::Study study = study::read_study(folder / "study.toml");
  const std::string tier = flags.full ? "full" : "quick";
  const int64_t seeds =
      flags.seeds > 0 ? flags.seeds : (flags.full ? study.full_seeds : study.quick_seeds);
  const int64_t parallel = flags.jobs > 0 ? flags.jobs : study::usable_processors();
  const fs::path out =
      fs::absolute(flags.out.empty() ? fs::path("runs") / fmt::format("{}-{}", flags.paper, tier)
                                     : fs::path(flags.out));
  const auto rows = choose_rows(study, tier, flags.rows);
  MOEKIT_CHECK(!rows.empty(), "reproduce: --rows \"", flags.rows, "\" fits no row of tier ", tier);
  std::vector<std::string> common = flags.set;
  if (!flags.full) {
    for (const auto& name : study.quick_data) {
      if (data::find_dataset(data::dataset_row(name), flags.data)) {
        common.push_back("data.name=" + name);
        break;
      }
    }
  }
  const Plan plan = make_plan(rows, flags, folder, out, seeds, common);
  study::Failures failures;
  if (!flags.table_only) {
    create_folders(out);
    const InterruptGuard guard;
    failures = study::run_jobs(plan.jobs, parallel, flags.quiet);
    if (interrupted()) {
      fmt::print(stderr, "stopped; the same command goes on from here\n");
      exit_code = kInterruptedExit;
      return;
    }
  }
  std::vector<study::RowResult> results;
  for (const auto& row : rows) {
    if (row.auxiliary) continue;
    results.push_back(study::gather_row(row, study.figure, out, seeds));
    if (const auto found = plan.missing.find(row.name); found != plan.missing.end()) {
      results.back().missing = found->second;
    }
    for (int64_t seed = 1; seed <= seeds; ++seed) {
      const auto found = failures.find(fmt::format("{}/seed{}", row.name, seed));
      if (found != failures.end()) {
        results.back().missing = found->second;
        fmt::print(stderr, "{}: {}\n", found->first, found->second);
        exit_code = 1;
      }
    }
  }
  std::vector<study::ClaimResult> claims;
  for (const auto& claim : study.claim) {
    if (claim.tier == tier) claims.push_back(study::judge(claim, study.figure, results));
  }
  if (!flags.markdown.empty()) {
    const std::string command =
        fmt::format("moekit reproduce {} --{} --seeds {}{}", flags.paper, tier, seeds,
                    flags.rows == "*" ? "" : " --rows '" + flags.rows + "'");
    write_file_atomic(flags.markdown, study::to_markdown(study, results, claims, command));
  }
  if (flags.json) {
    fmt::print("{}\n", study::to_json(study, results, claims).dump(2));
  } else {
    fmt::print("{}", study::to_text(study, results, claims));
  }
  write_page(study, results, claims, flags, out);
}

}  // namespace

void setup_reproduce(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ReproduceFlags>();
  auto* command = app.add_subcommand(
      "reproduce", "Run a paper's experiments and print our figures beside the paper's");
  command->add_option("paper", flags->paper, "Name of a folder in recipes/, as attentive-gate")
      ->required();
  command->add_flag("--quick", flags->quick, "The scaled-down tier (default), about ten minutes");
  command->add_flag("--full", flags->full, "The paper's own settings; hours");
  command->add_option("--seeds", flags->seeds, "Seeds a row")->check(CLI::PositiveNumber);
  command->add_option("--jobs", flags->jobs, "Runs at a time (default: one a core)")
      ->check(CLI::PositiveNumber);
  command->add_option("--rows", flags->rows, "Only rows whose name fits this pattern: 'mnist/*'");
  command->add_option("--set", flags->set, "Override a key in every row, as in train");
  command->add_option("--data", flags->data, "Folder of data sets");
  command->add_option("--out", flags->out, "Folder of the runs (default runs/PAPER-TIER)");
  command->add_option("--markdown", flags->markdown, "Also write the tables to this file");
  command->add_option("--report", flags->report, "The report page (default OUT/report.html)");
  command->add_flag("--json", flags->json, "Print as JSON");
  command->add_flag("--table-only", flags->table_only, "Train nothing: tables of what is there");
  command->add_flag("--quiet", flags->quiet, "No progress");
  command->callback([flags, &exit_code] { run(*flags, exit_code); });
}

}  // namespace moekit::cli
