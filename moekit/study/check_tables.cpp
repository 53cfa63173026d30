#include "moekit/study/check_tables.h"

#include <algorithm>
#include <set>

#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/random.h"
#include "moekit/study/tables.h"

namespace moekit::study {
namespace fs = std::filesystem;
namespace {

/// A table's size; a larger file is none.
constexpr uint64_t kMaxTableBytes = uint64_t{1} << 24;

/// The first line in which two texts differ.
std::string first_difference(const std::string& there, const std::string& wanted) {
  size_t line = 1;
  size_t begin = 0;
  for (size_t i = 0; i < std::min(there.size(), wanted.size()) && there[i] == wanted[i]; ++i) {
    if (there[i] != '\n') continue;
    ++line;
    begin = i + 1;
  }
  const auto at = [&](const std::string& text) {
    return begin < text.size() ? in_quotes(text.substr(begin, text.find('\n', begin) - begin))
                               : std::string("nothing");
  };
  return concat("line ", line, " is ", at(there), ", its record gives ", at(wanted));
}

/// A recorded run.
struct Pick {
  std::string row;
  int64_t seed;
};

std::vector<Pick> draw(const Outcome& recorded, size_t sample, std::mt19937_64& generator) {
  std::vector<Pick> all;
  for (const auto& row : recorded.rows) {
    for (const auto& run : row.runs.seeds) {
      if (run.missing.empty()) all.push_back({row.name, run.seed});
    }
  }
  const auto order =
      random_permutation(static_cast<int64_t>(all.size()), uniform_below(generator, ~uint64_t{0}));
  std::vector<Pick> picks;
  for (size_t i = 0; i < std::min(sample, all.size()); ++i) {
    picks.push_back(all[static_cast<size_t>(order[i])]);
  }
  return picks;
}

/// What is to be run for one pick, and where its figures will be.
struct Repeat {
  Row row;
  PlanOptions options;
  Plan plan;
};

Repeat plan_repeat(const Study& study, const Outcome& recorded, const Pick& pick,
                   PlanOptions options, const RecipeCheck& check) {
  options.first_seed = pick.seed;
  options.seeds = 1;
  options.set = recorded.set;
  auto rows = row_with_needed(study, pick.row);
  for (auto& row : rows) row = tuned_row(std::move(row), recorded.trials);
  Plan plan = make_plan(rows, options, check);
  return {rows.back(), std::move(options), std::move(plan)};  // what it needs stands before it
}

/// A folder that is not there yet: runs that are there already would be taken for repeated ones.
fs::path new_folder(const fs::path& parent) {
  std::error_code error;
  for (int i = 1;; ++i) {
    fs::path folder = parent / concat("check-", i);
    if (!fs::exists(folder, error)) return folder;
  }
}

}  // namespace

fs::path record_file(const fs::path& table) {
  fs::path file = table;
  return file.replace_extension(".json");
}

TableCheck check_tables(const Study& study, const fs::path& table,
                        const ReproductionOptions& options, const RecipeKnowledge& recipes,
                        size_t sample, std::mt19937_64& generator) {
  TableCheck out;
  const std::string text = read_file(table, kMaxTableBytes);
  const Outcome recorded = read_record(study, record_file(table));
  const auto makers = makers_of(recorded.rows);
  out.maker = concat("made by ", makers.empty() ? "nothing" : text_of(makers.front()), ", command ",
                     recorded.command);
  const std::string wanted = to_markdown(study, recorded);
  if (text != wanted) out.trouble = first_difference(text, wanted);

  std::vector<Repeat> repeats;
  std::vector<Job> jobs;
  std::set<std::string> names;
  PlanOptions plan_options = options.plan;
  plan_options.out = new_folder(options.plan.out);
  for (const auto& pick : draw(recorded, sample, generator)) {
    repeats.push_back(plan_repeat(study, recorded, pick, plan_options, recipes.check));
    for (const auto& job : repeats.back().plan.jobs) {
      if (names.insert(job.name).second) jobs.push_back(job);
    }
  }
  if (!jobs.empty()) create_folders(plan_options.out);
  const Failures failures = run_jobs(jobs, options.parallel, options.quiet);
  out.interrupted = interrupted();
  if (out.interrupted) return out;
  std::vector<RowResult> again;
  for (const auto& repeat : repeats) {
    const RowResult& row =
        again.emplace_back(summarize_row(repeat.row, study.figure,
                                         collect_runs(repeat.row, study.figure, repeat.options,
                                                      repeat.plan, failures, recipes.why_other)));
    const std::string name = run_name(row.name, repeat.options.first_seed);
    out.repeated.push_back(name);
    if (const auto missing = row.what_is_missing(); !missing.empty()) {
      out.failed.push_back(concat(name, ": ", missing));
    }
  }
  out.deviations = deviations(recorded, again);
  std::error_code ignored;
  if (out.sound()) fs::remove_all(plan_options.out, ignored);  // else for a look at what differs
  return out;
}

}  // namespace moekit::study
