#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "cli/command.h"
#include "cli/guard.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/words.h"
#include "moekit/data/folders.h"
#include "moekit/run/report.h"
#include "moekit/study/check_tables.h"
#include "moekit/study/jobs.h"
#include "moekit/study/tables.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {
namespace fs = std::filesystem;
namespace {

/// What a recipe asks for, and why it cannot be run here.
study::RecipeFacts look_at(const ConfigTree& recipe, const std::string& data_folder) {
  const run::Task& task = tasks::check_recipe(recipe);
  return {task.why_no_data(recipe, data_folder), task.data_set(recipe)};
}

/// Why a run is not the one that is asked for.
std::string why_other(const ConfigTree& asked, const fs::path& run,
                      const std::string& data_folder) {
  const run::Task& task = tasks::check_recipe(asked);
  return run::why_other_run(run, task.resolve(asked, data_folder));
}

/// What the study itself sets in every row: in the quick tier, the first of its small data sets.
std::vector<std::string> own_overrides(bool full, const std::string& name) {
  if (full || name.empty()) return {};
  return {"data.name=" + name};
}

/// The first of the study's small data sets that is here, else the first of all.
std::string quick_data(const study::Study& study, const std::string& folder) {
  for (const auto& name : study.quick_data) {
    if (data::find_dataset(data::dataset_row(name), folder)) return name;
  }
  return study.quick_data.empty() ? "" : study.quick_data.front();
}

study::ReproductionOptions options_of(const study::Study& study, const ReproduceFlags& flags) {
  study::ReproductionOptions options;
  options.tier = flags.full ? "full" : "quick";
  options.pattern = flags.rows;
  options.seeds = flags.seeds;
  options.until_decided = flags.until_decided;
  options.max_seeds = flags.max_seeds;
  options.allow_missing = flags.allow_missing;
  options.table_only = flags.table_only;
  options.parallel = flags.jobs > 0 ? flags.jobs : study::usable_processors();
  options.quiet = flags.quiet;
  options.plan.program = fs::read_symlink("/proc/self/exe");
  options.plan.folder = flags.folder;
  options.plan.out =
      fs::absolute(flags.out.empty() ? fs::path("runs") /
                                           fmt::format("{}-{}", flags.paper,
                                                       flags.check.empty() ? options.tier : "check")
                                     : fs::path(flags.out));
  options.plan.data_folder = flags.data;
  options.plan.usual_set =
      own_overrides(flags.full, study.quick_data.empty() ? "" : study.quick_data.front());
  options.plan.set = own_overrides(flags.full, quick_data(study, flags.data));
  // The user's come last: they win.
  options.plan.set.insert(options.plan.set.end(), flags.set.begin(), flags.set.end());
  return options;
}

study::Request request_of(const ReproduceFlags& flags, const std::string& tier) {
  return {flags.paper,     tier,      flags.rows,          flags.seeds,        flags.until_decided,
          flags.max_seeds, flags.set, !flags.data.empty(), flags.allow_missing};
}

/// What the tables are written to, looked at before hours of work.
void check_outputs(const ReproduceFlags& flags) {
  if (!flags.report.empty()) const AtomicFile probe(flags.report);
  if (flags.markdown.empty()) return;
  const fs::path record = study::record_file(flags.markdown);
  MOEKIT_CHECK(record != fs::path(flags.markdown), "reproduce: --markdown ", flags.markdown,
               ": the tables' record is FILE.json; name a FILE.md");
  for (const fs::path& file : {fs::path(flags.markdown), record}) {
    MOEKIT_CHECK(flags.report.empty() || fs::absolute(flags.report).lexically_normal() !=
                                             fs::absolute(file).lexically_normal(),
                 "reproduce: --report ", flags.report, " is what --markdown writes, too");
    const AtomicFile probe(file);  // refuses what it could not replace in the end
  }
  std::error_code error;
  if (!fs::exists(record, error)) return;
  try {
    study::check_is_record(record);
  } catch (const Error& fault) {
    throw IoError(concat("--markdown ", flags.markdown, " would replace ", record.string(),
                         ", which is no record of tables (", fault.what(), ")"));
  }
}

/// The report page over all rows that were run; its path is the last line on stdout.
void write_page(const study::Study& study, const study::Outcome& outcome,
                const ReproduceFlags& flags, const fs::path& out) {
  std::vector<run::RunGroup> groups;
  for (const auto& row : outcome.rows) {
    const auto folders = row.folders();
    if (!folders.empty()) groups.push_back({study::page_label(row, outcome.rows), folders});
  }
  if (groups.empty()) return;
  auto page =
      run::make_report(groups, &tasks::of_run, flags.data, study::figure_table(study, outcome));
  page.title = study.title;
  const bool compared = std::any_of(outcome.rows.begin(), outcome.rows.end(), [](const auto& row) {
    return std::any_of(row.cells.begin(), row.cells.end(),
                       [](const auto& cell) { return cell.second.paper.has_value(); });
  });
  page.legend += (compared ? " In brackets: the paper's value. " : " ") + study.source + ".";
  for (const auto& note : outcome.notes) page.lead = note + " " + page.lead;
  page.claims = study::claim_plot(outcome);
  page.claims_text = study::describe(study::tally(outcome.claims), outcome.looks);
  page.seeds = study::seed_plots(study, outcome);
  const fs::path path = flags.report.empty() ? out / "report.html" : fs::path(flags.report);
  write_file_atomic(path, report::render(page));
  if (!flags.json) fmt::print("\n{}\n", fs::absolute(path).string());
}

void print_results(const study::Study& study, const study::Outcome& outcome,
                   const ReproduceFlags& flags) {
  if (!flags.markdown.empty()) {
    // The record first: it refuses what should not stand in one table.
    write_file_atomic(study::record_file(flags.markdown),
                      dump_text(study::to_record(outcome), 1) + "\n");
    write_file_atomic(flags.markdown, study::to_markdown(study, outcome));
  }
  if (flags.json) {
    fmt::print("{}\n", dump_text(study::to_json(study, outcome), 2));
  } else {
    fmt::print("{}", study::to_text(study, outcome));
  }
}

/// `--check`.
int check(const study::Study& study, const study::ReproductionOptions& options,
          const study::RecipeKnowledge& recipes, const ReproduceFlags& flags) {
  constexpr int64_t kSample = 3;
  std::random_device device;  // another sample every time: what is committed cannot know it
  std::mt19937_64 generator((uint64_t{device()} << 32) | device());
  const auto found =
      study::check_tables(study, flags.check, options, recipes,
                          static_cast<size_t>(flags.sample.value_or(kSample)), generator);
  if (found.interrupted) return kInterruptedExit;
  fmt::print("{}: {}\n", flags.check, found.maker);
  if (!found.trouble.empty()) fmt::print("not what its record gives: {}\n", found.trouble);
  for (const auto& run : found.repeated) fmt::print("repeated: {}\n", run);
  for (const auto& run : found.failed) fmt::print("could not be repeated: {}\n", run);
  for (const auto& deviation : found.deviations) {
    fmt::print("differs: {} {}: recorded {}, found {} (allowed {})\n", deviation.run,
               deviation.figure, deviation.recorded, deviation.found, deviation.allowed);
  }
  fmt::print("{}\n", found.sound() ? "sound" : "NOT sound");
  return found.sound() ? 0 : kFailed;
}

}  // namespace

int run(const ReproduceFlags& flags) {
  // Also the name of the folder of its runs.
  MOEKIT_CHECK(study::is_row_name(flags.paper) && flags.paper.find('/') == std::string::npos,
               "reproduce: wants the name of a folder in recipes/; got ", in_quotes(flags.paper));
  // A study that names no figures is one of classifiers, the first task.
  const study::Study study =
      study::read_study(flags.folder / "study.toml", tasks::all().front()->study_figures());
  const auto options = options_of(study, flags);
  const study::RecipeKnowledge recipes{
      [&](const ConfigTree& recipe) { return look_at(recipe, flags.data); },
      [&](const ConfigTree& asked, const fs::path& run) {
        return why_other(asked, run, flags.data);
      }};
  check_outputs(flags);
  const InterruptGuard guard;
  if (!flags.check.empty()) return check(study, options, recipes, flags);
  study::Outcome outcome = study::reproduce(study, options, recipes);
  if (outcome.interrupted) {
    fmt::print(stderr, "stopped; the same command goes on from here\n");
    return kInterruptedExit;
  }
  for (const auto& [name, reason] : outcome.failures) fmt::print(stderr, "{}: {}\n", name, reason);
  outcome.request = request_of(flags, outcome.tier);
  outcome.command = study::command_of(outcome.request, outcome.seeds);
  print_results(study, outcome, flags);
  write_page(study, outcome, flags, options.plan.out);
  // Tables in which nothing stands are no success, whatever the reason.
  const bool any = std::any_of(outcome.rows.begin(), outcome.rows.end(),
                               [](const auto& row) { return !row.folders().empty(); });
  return outcome.failures.empty() && any ? 0 : kFailed;
}

}  // namespace moekit::cli
