#include "moekit/study/record.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "moekit/core/schema.h"

namespace moekit::study {
namespace {

// Tables show four digits behind the point, and two digits of what is smaller.
constexpr double kRounding = 1e-4;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Json runs_json(const RowResult& row) {
  Json out = {{"data", row.runs.data}, {"values", Json::object()}};
  if (!row.runs.usual_data.empty()) out["usual_data"] = row.runs.usual_data;
  if (!row.runs.missing.empty()) out["missing"] = row.runs.missing;
  Json seeds = Json::array();
  Json missing = Json::object();
  for (const auto& run : row.runs.seeds) {
    seeds.push_back(run.seed);
    if (!run.missing.empty()) missing[std::to_string(run.seed)] = run.missing;
  }
  out["seeds"] = std::move(seeds);
  if (!missing.empty()) out["missing_seeds"] = std::move(missing);
  for (const auto& [name, cell] : row.cells) {
    if (cell.applies) out["values"][name] = cell.values;  // NaN is written as null
  }
  return out;
}

Json trial_json(const Trial& trial) {
  Json out = {{"row", trial.row},
              {"set", trial.set},
              {"seeds", trial.figure.count},
              {"value", trial.figure.value},
              {"chosen", trial.chosen}};
  if (!trial.missing.empty()) out["missing"] = trial.missing;
  return out;
}

const Schema& record_schema() {
  static const Schema kRow =
      Schema::object({{"data", Schema::text()},
                      {"seeds", Schema::list(Schema::count())},
                      {"values", Schema::map(Schema::list(Schema::figure()))},
                      {"missing", Schema::text(), false},
                      {"usual_data", Schema::text(), false},
                      {"missing_seeds", Schema::map(Schema::text()), false}});
  static const Schema kTrial = Schema::object({{"row", Schema::text()},
                                               {"set", Schema::list(Schema::text())},
                                               {"seeds", Schema::count()},
                                               {"value", Schema::figure()},
                                               {"missing", Schema::text(), false},
                                               {"chosen", Schema::boolean()}});
  static const Schema kMaker = Schema::object(
      {{"version", Schema::text()}, {"libtorch", Schema::text()}, {"machine", Schema::text()}});
  static const Schema kRecord = Schema::object({{"command", Schema::text()},
                                                {"request", schema_of<Request>()},
                                                {"set", Schema::list(Schema::text())},
                                                {"tier", Schema::text()},
                                                {"seeds", Schema::count()},
                                                {"looks", Schema::count()},
                                                {"allow_missing", Schema::boolean()},
                                                {"maker", kMaker},
                                                {"rows", Schema::map(kRow)},
                                                {"trials", Schema::list(kTrial)}});
  return kRecord;
}

/// @param conditional  figures that some runs do not tell
/// @param where  file and row, for messages
RowRuns read_runs(const Json& json, const Maker& maker, const std::set<std::string>& conditional,
                  const std::string& where) {
  RowRuns runs{
      {}, json.value("missing", ""), json["data"].get<std::string>(), json.value("usual_data", "")};
  for (const auto& seed : json["seeds"]) {
    SeedRun& run = runs.seeds.emplace_back();
    run.seed = seed.get<int64_t>();
    run.maker = maker;
    const std::string key = std::to_string(run.seed);
    if (json.contains("missing_seeds") && json["missing_seeds"].contains(key)) {
      run.missing = json["missing_seeds"][key].get<std::string>();
    }
  }
  for (const auto& [figure, values] : json["values"].items()) {
    if (values.size() != runs.seeds.size()) {
      throw FormatError(concat(where, ": values.", figure, " has ", values.size(), " numbers for ",
                               runs.seeds.size(), " seeds"));
    }
    for (size_t i = 0; i < values.size(); ++i) {
      if (!runs.seeds[i].missing.empty()) continue;
      const double value = figure_value(values[i]);
      if (!std::isnan(value) || !conditional.contains(figure)) runs.seeds[i].values[figure] = value;
    }
  }
  return runs;
}

/// Holds rows, seeds and overrides against what the command would have run: a record without them
/// would stand for a choice among the results.
void check_request(const Study& study, const Outcome& outcome, const std::string& file) {
  const Request& request = outcome.request;
  const auto check = [&](bool sound, const auto&... what) {
    if (!sound) throw FormatError(concat(file, ": ", what...));
  };
  check(outcome.command == command_of(request, outcome.seeds), "command is ",
        in_quotes(outcome.command), ", its request gives ",
        in_quotes(command_of(request, outcome.seeds)));
  check(request.tier == outcome.tier && request.allow_missing == outcome.allow_missing,
        "request is not of these tables");
  const auto& set = outcome.set;
  check(set.size() >= request.set.size() &&
            std::equal(request.set.rbegin(), request.set.rend(), set.rbegin()),
        "set does not end with the overrides of the request");
  const int64_t usual = outcome.tier == "full" ? study.full_seeds : study.quick_seeds;
  const int64_t least = request.seeds > 0 ? request.seeds : usual;
  check(request.until_decided ? outcome.seeds >= least && outcome.seeds <= request.max_seeds
                              : outcome.seeds == least,
        "seeds is ", outcome.seeds, "; the request asks for ", least);
  size_t shown = 0;
  for (const auto& row : choose_rows(study, outcome.tier, request.rows)) {
    if (row.auxiliary) continue;
    const bool there = shown < outcome.rows.size() && outcome.rows[shown].name == row.name;
    check(there, "rows lacks ", row.name, ", which the command runs");
    const auto& seeds = outcome.rows[shown++].runs.seeds;
    const int64_t asked = row.seeds > 0 ? std::min(row.seeds, outcome.seeds) : outcome.seeds;
    check(static_cast<int64_t>(seeds.size()) == asked, "row ", row.name, " has ", seeds.size(),
          " seeds, the command runs ", asked);
    for (size_t i = 0; i < seeds.size(); ++i) {
      check(seeds[i].seed == static_cast<int64_t>(i) + 1, "row ", row.name, ": seed ",
            seeds[i].seed, " stands at place ", i + 1);
    }
  }
  check(shown == outcome.rows.size(), "rows has more than the command runs");
}

}  // namespace

Json to_record(const Outcome& outcome) {
  const auto makers = makers_of(outcome.rows);
  if (makers.size() > 1) {
    throw ArgumentError(concat("the runs were not made by one version on one machine (",
                               text_of(makers[0]), "; ", text_of(makers[1]),
                               "): no table is written of them; run them again in another --out"));
  }
  const Maker maker = makers.empty() ? Maker{} : makers.front();
  Json out = {
      {"command", outcome.command},
      {"request", moekit::to_json(outcome.request)},
      {"set", outcome.set},
      {"tier", outcome.tier},
      {"seeds", outcome.seeds},
      {"looks", outcome.looks},
      {"allow_missing", outcome.allow_missing},
      {"maker",
       {{"version", maker.version}, {"libtorch", maker.libtorch}, {"machine", maker.machine}}},
      {"rows", Json::object()},
      {"trials", Json::array()}};
  for (const auto& row : outcome.rows) out["rows"][row.name] = runs_json(row);
  for (const auto& trial : outcome.trials) out["trials"].push_back(trial_json(trial));
  return out;
}

void check_is_record(const std::filesystem::path& file) {
  // No more than tells a record of any version from other files.
  static const Schema kAny = Schema::object({{"command", Schema::text()},
                                             {"tier", Schema::text()},
                                             {"maker", Schema::map(Schema::text())},
                                             {"rows", Schema::map(Schema::any())}});
  kAny.check(read_json(file), file.string());
}

Outcome read_record(const Study& study, const std::filesystem::path& file) {
  const Json json = read_json(file);
  record_schema().check(json, file.string());
  Outcome outcome;
  bind_state(json["request"], concat(file.string(), ": request"), outcome.request);
  outcome.command = json["command"].get<std::string>();
  outcome.set = json["set"].get<std::vector<std::string>>();
  outcome.tier = json["tier"].get<std::string>();
  outcome.seeds = json["seeds"].get<int64_t>();
  outcome.looks = json["looks"].get<size_t>();
  outcome.allow_missing = json["allow_missing"].get<bool>();
  const Json& by = json["maker"];
  const Maker maker{by["version"].get<std::string>(), by["libtorch"].get<std::string>(),
                    by["machine"].get<std::string>()};
  std::set<std::string> conditional;
  for (const auto& figure : study.figure) {
    if (figure.conditional) conditional.insert(figure.name);
  }
  // In the study's order.
  size_t known = 0;
  for (const auto& row : study.row) {
    const auto found = json["rows"].find(row.name);
    if (found == json["rows"].end()) continue;
    ++known;
    outcome.rows.push_back(summarize_row(
        row, study.figure,
        read_runs(*found, maker, conditional, concat(file.string(), ": row ", row.name))));
  }
  MOEKIT_CHECK(known == json["rows"].size(), file.string(),
               ": tells of rows that the study does not have");
  for (const auto& item : json["trials"]) {
    Trial& trial = outcome.trials.emplace_back();
    trial.row = item["row"].get<std::string>();
    trial.set = item["set"].get<std::vector<std::string>>();
    trial.figure.count = item["seeds"].get<size_t>();
    trial.figure.value = figure_value(item["value"]);
    trial.missing = item.value("missing", "");
    trial.chosen = item["chosen"].get<bool>();
  }
  check_request(study, outcome, file.string());
  judge_all(study, outcome);
  return outcome;
}

std::vector<Deviation> deviations(const Outcome& recorded, const std::vector<RowResult>& again) {
  std::vector<Deviation> out;
  for (const auto& row : again) {
    const auto old = std::find_if(recorded.rows.begin(), recorded.rows.end(),
                                  [&](const RowResult& known) { return known.name == row.name; });
    if (old == recorded.rows.end()) continue;
    for (const auto& run : row.runs.seeds) {
      if (!run.missing.empty()) continue;  // told as what it is
      const auto before =
          std::find_if(old->runs.seeds.begin(), old->runs.seeds.end(),
                       [&](const SeedRun& known) { return known.seed == run.seed; });
      if (before == old->runs.seeds.end() || !before->missing.empty()) continue;
      const bool same = before->maker == run.maker;
      for (const auto& [name, value] : before->values) {
        const Cell& cell = old->cells.at(name);
        const double rounding = kRounding * std::max(1.0, std::abs(value));
        const double allowed = same ? rounding : std::max(rounding, 2 * cell.ours.standard_error());
        const auto found = run.values.find(name);
        const double now = found == run.values.end() ? kNaN : found->second;
        const bool both_missing = std::isnan(now) && std::isnan(value);
        if (both_missing || std::abs(now - value) <= allowed) continue;
        out.push_back({run_name(row.name, run.seed), name, value, now, allowed});
      }
    }
  }
  return out;
}

}  // namespace moekit::study
