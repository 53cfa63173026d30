#include "moekit/study/plan.h"

#include <fnmatch.h>

#include <functional>
#include <set>

namespace moekit::study {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kThreads = 1;  // of a run: seeds run side by side

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

/// What a row asks for with these overrides of all rows; `options.set` and `usual_set` are such.
RecipeFacts facts_of(const Row& row, PlanOptions options, const std::vector<std::string>& set,
                     const RecipeCheck& check) {
  options.set = set;
  try {
    return check(asked_recipe(row, options.first_seed, options));
  } catch (const ArgumentError& error) {
    throw ArgumentError(concat(options.folder.string(), ": row ", row.name, ": ", error.what()));
  }
}

/// Looks at a row's recipe before anything is run.
void examine(const Row& row, const PlanOptions& options, const RecipeCheck& check, Plan& plan) {
  RecipeFacts facts = facts_of(row, options, options.set, check);
  for (const auto& [key, other] : row.needs.items()) {
    const auto found = plan.missing.find(other.get<std::string>());
    if (found != plan.missing.end()) facts.obstacle = found->second;
  }
  if (!facts.obstacle.empty()) plan.missing[row.name] = facts.obstacle;
  plan.data[row.name] = facts.data_set;
  if (options.set == options.usual_set) return;
  const auto usual = facts_of(row, options, options.usual_set, check).data_set;
  if (usual != facts.data_set) plan.usual_data[row.name] = usual;
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
                 std::to_string(kThreads),
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

/// Wanted rows and those they need, in the study's order.
std::vector<Row> with_needed(const Study& study, const std::function<bool(const Row&)>& is_wanted) {
  // A row needs rows before it: from the last to the first, all that is needed is known in time.
  std::set<std::string> wanted;
  for (auto row = study.row.rbegin(); row != study.row.rend(); ++row) {
    if (!is_wanted(*row) && wanted.count(row->name) == 0) continue;
    wanted.insert(row->name);
    for (const auto& [key, other] : row->needs.items()) wanted.insert(other.get<std::string>());
  }
  std::vector<Row> rows;
  for (const auto& row : study.row) {
    if (wanted.count(row.name) == 1) rows.push_back(row);
  }
  return rows;
}

}  // namespace

std::string toml_value(const Json& value) {
  if (value.is_number()) return value.dump();  // 0.1, where to_toml() gives 0.10000000000000001
  const std::string table = to_toml(Json{{"v", value}});
  return table.substr(4, table.size() - 5);  // "v = ...\n"
}

ConfigTree asked_recipe(const Row& row, int64_t seed, const PlanOptions& options) {
  ConfigTree recipe = read_toml(options.folder / row.recipe);
  for (const auto& assignment : overrides(row, seed, options)) apply_override(recipe, assignment);
  recipe.values["seed"] = seed;  // as the job's flags do
  recipe.values["threads"] = kThreads;
  return recipe;
}

std::vector<Row> choose_rows(const Study& study, const std::string& tier,
                             const std::string& pattern) {
  return with_needed(study, [&](const Row& row) {
    return row.tier == tier && ::fnmatch(pattern.c_str(), row.name.c_str(), 0) == 0;
  });
}

std::vector<Row> row_with_needed(const Study& study, const std::string& name) {
  return with_needed(study, [&](const Row& row) { return row.name == name; });
}

Plan make_plan(const std::vector<Row>& rows, const PlanOptions& options, const RecipeCheck& check) {
  const auto count = static_cast<int64_t>(rows.size());
  MOEKIT_CHECK(
      options.seeds >= 1 && options.seeds <= kMaxSeeds && count <= kMaxRuns / options.seeds,
      options.folder.string(), ": a plan of ", count, " rows with ", options.seeds,
      " seeds; at most ", kMaxSeeds, " seeds and ", kMaxRuns, " runs are taken");
  Plan plan;
  for (const auto& row : rows) examine(row, options, check, plan);
  // Seed after seed, so that a run that is cut short still has whole seeds.
  for (int64_t i = 0; i < options.seeds; ++i) {
    for (const auto& row : rows) {
      if (plan.missing.count(row.name) == 1 || (row.seeds > 0 && i >= row.seeds)) continue;
      plan.jobs.push_back(make_job(row, options.first_seed + i, options));
    }
  }
  return plan;
}

}  // namespace moekit::study
