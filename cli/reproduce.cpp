#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/command.h"
#include "cli/guard.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/words.h"
#include "moekit/data/folders.h"
#include "moekit/run/report.h"
#include "moekit/study/jobs.h"
#include "moekit/study/plan.h"
#include "moekit/study/tables.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {
namespace fs = std::filesystem;
namespace {

/// Why a recipe cannot be run here, or nothing.
std::string find_obstacle(const ConfigTree& recipe, const std::string& data_folder) {
  const run::Task& task = tasks::check_recipe(recipe);
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
    groups.push_back({study::page_label(row, results), {row.runs.begin(), row.runs.end()}});
  }
  if (groups.empty()) return;
  auto page =
      run::make_report(groups, &tasks::of_run, flags.data, study::figure_table(study, results));
  page.title = study.title;
  const bool compared = std::any_of(results.begin(), results.end(), [](const auto& row) {
    return std::any_of(row.cells.begin(), row.cells.end(),
                       [](const auto& cell) { return cell.second.paper.has_value(); });
  });
  page.legend += (compared ? " In brackets: the paper's value. " : " ") + study.source + ".";
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
    fmt::print("{}\n", dump_text(study::to_json(study, results, claims), 2));
  } else {
    fmt::print("{}", study::to_text(study, results, claims));
  }
}

}  // namespace

int run(const ReproduceFlags& flags) {
  // Also the name of the folder of its runs.
  MOEKIT_CHECK(study::is_row_name(flags.paper) && flags.paper.find('/') == std::string::npos,
               "reproduce: wants the name of a folder in recipes/; got ", in_quotes(flags.paper));
  // A study that names no figures is one of classifiers, the first task.
  const study::Study study =
      study::read_study(flags.folder / "study.toml", tasks::all().front()->study_figures());
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
                       {fs::read_symlink("/proc/self/exe"), flags.folder, out, seeds,
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
      return kInterruptedExit;
    }
  }
  for (const auto& [name, reason] : failures) fmt::print(stderr, "{}: {}\n", name, reason);
  const auto results = study::gather_rows(rows, study.figure, out, seeds, plan.missing, failures);
  std::vector<study::ClaimResult> claims;
  for (const auto& claim : study.claim) {
    if (claim.tier == tier) claims.push_back(study::judge(claim, study.figure, results));
  }
  print_results(study, results, claims, flags,
                fmt::format("moekit reproduce {} --{} --seeds {}{}", flags.paper, tier, seeds,
                            flags.rows == "*" ? "" : " --rows " + shell_quoted(flags.rows)));
  write_page(study, results, claims, flags, out);
  return failures.empty() ? 0 : kFailed;
}

}  // namespace moekit::cli
