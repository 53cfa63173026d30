#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "cli/command.h"
#include "cli/recipes.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/data/folders.h"
#include "moekit/run/report.h"
#include "moekit/study/jobs.h"
#include "moekit/study/plan.h"
#include "moekit/study/tables.h"
#include "moekit/tasks/tasks.h"

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

/// Why a recipe cannot be run here, or nothing.
std::string find_obstacle(const ConfigTree& recipe, const std::string& data_folder) {
  const run::Task& task = tasks::of_recipe(recipe);
  task.check(recipe);
  const std::string needed = task.data_set(recipe);
  if (needed.empty() || data::find_dataset(data::dataset_row(needed), data_folder)) return {};
  return concat("data set ", needed, " was not found");
}

/// Overrides of every row: the user's, and in the quick tier the first of the study's small data
/// sets that is here.
std::vector<std::string> common_overrides(const study::Study& study, const ReproduceFlags& flags) {
  std::vector<std::string> set = flags.set;
  if (flags.full) return set;
  for (const auto& name : study.quick_data) {
    if (data::find_dataset(data::dataset_row(name), flags.data)) {
      set.push_back("data.name=" + name);
      break;
    }
  }
  return set;
}

/// The report page over all rows that were run; its path is the last line on stdout.
void write_page(const study::Study& study, const std::vector<study::RowResult>& results,
                const std::vector<study::ClaimResult>& claims, const ReproduceFlags& flags,
                const fs::path& out) {
  std::vector<run::RunGroup> groups;
  for (const auto& row : results) {
    if (row.runs.empty()) continue;
    groups.push_back({study::full_label(row), {row.runs.begin(), row.runs.end()}});
  }
  if (groups.empty()) return;
  auto page = run::make_report(groups, &tasks::of_run, flags.data);
  page.title = study.title;
  page.introduction = study.source + ". " + page.introduction;
  page.tables.insert(page.tables.begin(), {"Figures: mean ± standard deviation [the paper's]",
                                           study::figure_table(study, results)});
  if (!claims.empty()) page.tables.emplace_back("Claims", study::claim_table(claims));
  const fs::path path = flags.report.empty() ? out / "report.html" : fs::path(flags.report);
  write_file_atomic(path, report::render(page));
  if (!flags.json) fmt::print("\n{}\n", fs::absolute(path).string());
}

void print_results(const study::Study& study, const std::vector<study::RowResult>& results,
                   const std::vector<study::ClaimResult>& claims, const ReproduceFlags& flags,
                   const std::string& command) {
  if (!flags.markdown.empty()) {
    write_file_atomic(flags.markdown, study::to_markdown(study, results, claims, command));
  }
  if (flags.json) {
    fmt::print("{}\n", study::to_json(study, results, claims).dump(2));
  } else {
    fmt::print("{}", study::to_text(study, results, claims));
  }
}

void run(const ReproduceFlags& flags, int& exit_code) {
  MOEKIT_CHECK(!(flags.quick && flags.full), "reproduce: --quick and --full exclude each other");
  const fs::path folder = find_study(flags.paper);
  // A study that names no figures is one of classifiers, the first task.
  const study::Study study =
      study::read_study(folder / "study.toml", tasks::all().front()->study_figures());
  const std::string tier = flags.full ? "full" : "quick";
  const int64_t seeds =
      flags.seeds > 0 ? flags.seeds : (flags.full ? study.full_seeds : study.quick_seeds);
  const fs::path out =
      fs::absolute(flags.out.empty() ? fs::path("runs") / fmt::format("{}-{}", flags.paper, tier)
                                     : fs::path(flags.out));
  const auto rows = study::choose_rows(study, tier, flags.rows);
  MOEKIT_CHECK(!rows.empty(), "reproduce: --rows \"", flags.rows, "\" fits no row of tier ", tier);
  const auto plan =
      study::make_plan(rows,
                       {fs::read_symlink("/proc/self/exe"), folder, out, seeds,
                        common_overrides(study, flags), flags.data},
                       [&](const ConfigTree& recipe) { return find_obstacle(recipe, flags.data); });
  study::Failures failures;
  if (!flags.table_only) {
    create_folders(out);
    const InterruptGuard guard;
    failures = study::run_jobs(plan.jobs, flags.jobs > 0 ? flags.jobs : study::usable_processors(),
                               flags.quiet);
    if (interrupted()) {
      fmt::print(stderr, "stopped; the same command goes on from here\n");
      exit_code = kInterruptedExit;
      return;
    }
  }
  for (const auto& [name, reason] : failures) fmt::print(stderr, "{}: {}\n", name, reason);
  if (!failures.empty()) exit_code = 1;
  const auto results = study::gather_rows(rows, study.figure, out, seeds, plan.missing, failures);
  std::vector<study::ClaimResult> claims;
  for (const auto& claim : study.claim) {
    if (claim.tier == tier) claims.push_back(study::judge(claim, study.figure, results));
  }
  print_results(study, results, claims, flags,
                fmt::format("moekit reproduce {} --{} --seeds {}{}", flags.paper, tier, seeds,
                            flags.rows == "*" ? "" : " --rows '" + flags.rows + "'"));
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
