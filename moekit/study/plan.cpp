#include "moekit/study/plan.h"

#include <fnmatch.h>

#include <set>

namespace moekit::study {
namespace fs = std::filesystem;
namespace {

std::string toml_value(const Json& value) {
  const std::string table = to_toml(Json{{"v", value}});
  return table.substr(4, table.size() - 5);  // "v = ...\n"
}

fs::path run_folder(const Row& row, int64_t seed, const PlanOptions& options) {
  return options.out / run_name(row.name, seed);
}

/// All overrides of one run of a row.
std::vector<std::string> overrides(const Row& row, int64_t seed, const PlanOptions& options) {
  std::vector<std::string> set = row.set;
  set.insert(set.end(), options.set.begin(), options.set.end());
  for (const auto& [key, values] : row.cycle.items()) {
    const auto& value = values[static_cast<size_t>(seed - 1) % values.size()];
    set.push_back(concat(key, "=", toml_value(value)));
  }
  for (const auto& [key, other] : row.needs.items()) {
    const fs::path run = options.out / run_name(other.get<std::string>(), seed);
    MOEKIT_CHECK(is_utf8(run.native()), run.string(), ": the path is not UTF-8, which --set needs");
    set.push_back(concat(key, "=", in_quotes(run.native())));
  }
  return set;
}

/// Why a row cannot be run, or nothing.
std::string find_obstacle(const Row& row, const PlanOptions& options, const RecipeCheck& check,
                          const std::map<std::string, std::string>& missing) {
  ConfigTree recipe = read_toml(options.folder / row.recipe);
  std::string reason;
  try {
    for (const auto& assignment : overrides(row, 1, options)) apply_override(recipe, assignment);
    reason = check(recipe);
  } catch (const ArgumentError& error) {
    throw ArgumentError(concat(options.folder.string(), ": row ", row.name, ": ", error.what()));
  }
  for (const auto& [key, other] : row.needs.items()) {
    const auto found = missing.find(other.get<std::string>());
    if (found != missing.end()) reason = found->second;
  }
  return reason;
}

Job make_job(const Row& row, int64_t seed, const PlanOptions& options) {
  Job job;
  job.name = run_name(row.name, seed);
  job.kind = row.name;
  job.log = options.out / "logs" / (job.name + ".log");
  job.status = options.out / "logs" / (job.name + ".status");
  job.command = {options.program.string(),
                 "train",
                 (options.folder / row.recipe).string(),
                 "--seed",
                 std::to_string(seed),
                 "--threads",
                 "1",
                 "--quiet",
                 "--status",
                 job.status.string(),
                 "--resume",
                 "--out",
                 run_folder(row, seed, options).string()};
  if (!options.data_folder.empty()) {
    job.command.insert(job.command.end(), {"--data", options.data_folder});
  }
  for (const auto& [key, other] : row.needs.items()) {
    job.after.push_back(run_name(other.get<std::string>(), seed));
  }
  for (const auto& assignment : overrides(row, seed, options)) {
    job.command.insert(job.command.end(), {"--set", assignment});
  }
  return job;
}

}  // namespace

std::vector<Row> choose_rows(const Study& study, const std::string& tier,
                             const std::string& pattern) {
  // A row needs rows before it: from the last to the first, all that is needed is known in time.
  std::set<std::string> wanted;
  for (auto row = study.row.rbegin(); row != study.row.rend(); ++row) {
    const bool match = row->tier == tier && ::fnmatch(pattern.c_str(), row->name.c_str(), 0) == 0;
    if (!match && wanted.count(row->name) == 0) continue;
    wanted.insert(row->name);
    for (const auto& [key, other] : row->needs.items()) wanted.insert(other.get<std::string>());
  }
  std::vector<Row> rows;
  for (const auto& row : study.row) {
    if (wanted.count(row.name) == 1) rows.push_back(row);
  }
  return rows;
}

Plan make_plan(const std::vector<Row>& rows, const PlanOptions& options, const RecipeCheck& check) {
  const auto count = static_cast<int64_t>(rows.size());
  MOEKIT_CHECK(
      options.seeds >= 1 && options.seeds <= kMaxSeeds && count <= kMaxRuns / options.seeds,
      options.folder.string(), ": a plan of ", count, " rows with ", options.seeds,
      " seeds; at most ", kMaxSeeds, " seeds and ", kMaxRuns, " runs are taken");
  Plan plan;
  for (const auto& row : rows) {
    std::string reason = find_obstacle(row, options, check, plan.missing);
    if (!reason.empty()) plan.missing[row.name] = std::move(reason);
  }
  // Seed after seed, so that a run that is cut short still has whole seeds.
  for (int64_t seed = 1; seed <= options.seeds; ++seed) {
    for (const auto& row : rows) {
      if (plan.missing.count(row.name) == 1 || (row.seeds > 0 && seed > row.seeds)) continue;
      plan.jobs.push_back(make_job(row, seed, options));
    }
  }
  return plan;
}

}  // namespace moekit::study
