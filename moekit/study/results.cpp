#include "moekit/study/results.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "moekit/core/schema.h"

namespace moekit::study {
namespace fs = std::filesystem;
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Whether the row's own point is missed by a value on that side of the paper's.
bool speaks_against(Standing standing, Expect expect) {
  return standing == (expect == Expect::kBetter ? Standing::kWorse : Standing::kBetter);
}

Standing standing_of(const Estimate& ours, double paper, const Figure& figure) {
  if (ours.count == 0) return Standing::kNone;
  const bool bounded = std::isfinite(ours.interval.low) && std::isfinite(ours.interval.high);
  if (ours.count < kLeastSeeds || !bounded) return Standing::kUndecided;
  if (paper >= ours.interval.low - figure.margin && paper <= ours.interval.high + figure.margin) {
    return Standing::kReproduced;
  }
  if (figure.better == Better::kNone) return Standing::kDiffers;
  return (ours.value > paper) == (figure.better == Better::kHigher) ? Standing::kBetter
                                                                    : Standing::kWorse;
}

Cell make_cell(const Row& row, const Figure& figure, const RowRuns& runs) {
  Cell cell;
  std::vector<double> there;
  for (const auto& run : runs.seeds) {
    const auto found = run.values.find(figure.name);
    const bool told = run.missing.empty() && found != run.values.end();
    cell.applies = cell.applies || told;
    if (run.missing.empty() && !told && figure.conditional) ++cell.excepted;
    cell.values.push_back(told && std::isfinite(found->second) ? found->second : kNaN);
    if (!std::isnan(cell.values.back())) there.push_back(cell.values.back());
  }
  cell.ours = summarize(there);
  try {
    cell.estimate = estimate(there, figure.statistic);
  } catch (const ArgumentError& error) {
    throw ArgumentError(concat("row ", row.name, ", figure ", figure.name, ": ", error.what()));
  }
  if (!runs.usual_data.empty()) return cell;
  const auto known = [&](const Json& table) -> std::optional<double> {
    return table.contains(figure.name) ? std::optional(table[figure.name].get<double>())
                                       : std::nullopt;
  };
  cell.paper = known(row.paper);
  cell.reference = known(row.reference);
  if (cell.paper) cell.standing = standing_of(cell.estimate, *cell.paper, figure);
  cell.against = speaks_against(cell.standing, row.expect);
  return cell;
}

}  // namespace

Maker read_maker(const fs::path& run) {
  const fs::path file = run / "run.json";
  const Json json = read_json(file);
  Schema::map(Schema::any()).check(json, file.string());
  const auto text = [&](const char* key) {
    return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : "unknown";
  };
  return {text("moekit"), text("libtorch"), text("machine")};
}

std::map<std::string, double> read_values(const fs::path& run, const std::vector<Figure>& figures) {
  const fs::path file = run / "summary.json";
  const Json summary = read_json(file);
  Schema::map(Schema::any()).check(summary, file.string());
  std::map<std::string, double> values;
  for (const auto& figure : figures) {
    const Json::json_pointer pointer(figure.pointer);
    if (!summary.contains(pointer)) continue;
    const Json& value = summary[pointer];
    // NaN and infinity are written as null.
    values[figure.name] = value.is_number() ? value.get<double>() : kNaN;
  }
  return values;
}

std::string text_of(const Maker& maker) {
  return concat("moekit ", maker.version, ", libtorch ", maker.libtorch, ", on ", maker.machine);
}

std::vector<fs::path> RowResult::folders() const {
  std::vector<fs::path> found;
  for (const auto& run : runs.seeds) {
    if (run.missing.empty() && !run.folder.empty()) found.push_back(run.folder);
  }
  return found;
}

std::string RowResult::what_is_missing() const {
  if (!runs.missing.empty()) return runs.missing;
  // Seeds that lack for one reason, together.
  std::vector<std::pair<std::string, std::string>> reasons;
  for (const auto& run : runs.seeds) {
    if (run.missing.empty()) continue;
    auto known = std::find_if(reasons.begin(), reasons.end(),
                              [&](const auto& reason) { return reason.second == run.missing; });
    if (known == reasons.end()) {
      reasons.emplace_back(concat("seed ", run.seed), run.missing);
    } else {
      known->first += concat(", ", run.seed);
    }
  }
  std::string out;
  for (const auto& [seeds, reason] : reasons) {
    out += concat(out.empty() ? "" : "; ", seeds, ": ", reason);
  }
  return out;
}

std::string why_not_there(const Row& row, int64_t seed, const PlanOptions& options,
                          const RunCheck& check) {
  const fs::path folder = options.out / run_name(row.name, seed);
  if (!fs::exists(folder / "summary.json")) {
    return fs::exists(folder / "config.toml") ? "not finished" : "not run";
  }
  return check(asked_recipe(row, seed, options), folder);
}

namespace {

/// What is known of a run's folder. One that is damaged is missing; the others can be told.
void read_run(const Row& row, const std::vector<Figure>& figures, const PlanOptions& options,
              const RunCheck& check, SeedRun& run) {
  try {
    run.missing = why_not_there(row, run.seed, options, check);
    if (!run.missing.empty()) return;
    run.values = read_values(run.folder, figures);
    run.maker = read_maker(run.folder);
  } catch (const Error& error) {
    run.missing = concat("damaged: ", error.what());
  }
  for (const auto& figure : figures) {
    const auto value = run.values.find(figure.name);
    if (figure.statistic != Statistic::kProportion || value == run.values.end()) continue;
    if (std::isnan(value->second) || value->second == 0 || value->second == 1) continue;
    run.missing = concat("summary.json: ", figure.pointer,
                         " counts for a proportion and must be 0 or 1; got ", value->second);
  }
}

}  // namespace

RowRuns collect_runs(const Row& row, const std::vector<Figure>& figures, const PlanOptions& options,
                     const Plan& plan, const Failures& failures, const RunCheck& check) {
  const auto look_up = [&](const std::map<std::string, std::string>& table) {
    const auto found = table.find(row.name);
    return found == table.end() ? std::string() : found->second;
  };
  RowRuns runs{{}, look_up(plan.missing), look_up(plan.data), look_up(plan.usual_data)};
  const int64_t asked = row.seeds > 0 ? std::min(row.seeds, options.seeds) : options.seeds;
  for (int64_t seed = options.first_seed; seed < options.first_seed + asked; ++seed) {
    SeedRun& run = runs.seeds.emplace_back();
    run.seed = seed;
    run.folder = options.out / run_name(row.name, seed);
    const auto failure = failures.find(run_name(row.name, seed));
    if (failure != failures.end()) {
      run.missing = concat("failed: ", failure->second);
    } else if (!runs.missing.empty()) {
      run.missing = runs.missing;
    } else {
      read_run(row, figures, options, check, run);
    }
  }
  return runs;
}

RowResult summarize_row(const Row& row, const std::vector<Figure>& figures, RowRuns runs) {
  RowResult result;
  result.name = row.name;
  result.label = row.label.empty() ? row.name : row.label;
  for (const auto& figure : figures) result.cells[figure.name] = make_cell(row, figure, runs);
  result.runs = std::move(runs);
  return result;
}

std::vector<Maker> makers_of(const std::vector<RowResult>& rows) {
  std::vector<Maker> makers;
  for (const auto& row : rows) {
    for (const auto& run : row.runs.seeds) {
      if (!run.missing.empty()) continue;
      if (std::find(makers.begin(), makers.end(), run.maker) == makers.end()) {
        makers.push_back(run.maker);
      }
    }
  }
  return makers;
}

}  // namespace moekit::study
