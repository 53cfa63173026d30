#include "moekit/study/reproduction.h"

#include <algorithm>
#include <optional>
#include <set>

#include "moekit/core/file_lock.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/words.h"

namespace moekit::study {
namespace {

/// Refuses overrides of what every run of a study has of its own.
void check_overrides(const std::vector<std::string>& set) {
  for (const auto& assignment : set) {
    ConfigTree alone;
    apply_override(alone, assignment);
    for (const char* key : {"seed", "threads"}) {
      MOEKIT_CHECK(!alone.values.contains(key), "--set: ", key,
                   " is set by the study in every run; seeds are chosen with --seeds");
    }
  }
}

/// Seeds after `seeds`, while claims are undecided: half as many again, since each look at the
/// intervals gives chance another opportunity.
int64_t more_seeds(int64_t seeds, int64_t most) {
  return std::min(std::max(seeds + 1, seeds + seeds / 2), most);
}

class Reproducer {
 public:
  Reproducer(const Study& study, const ReproductionOptions& options, const RecipeKnowledge& recipes)
      : study_(study), options_(options), recipes_(recipes) {
    outcome_.tier = options.tier;
    outcome_.allow_missing = options.allow_missing;
    outcome_.set = options.plan.set;
    check_overrides(options.plan.set);
    rows_ = choose_rows(study, options.tier, options.pattern);
    MOEKIT_CHECK(!rows_.empty(), "reproduce: --rows ", in_quotes(options.pattern),
                 " fits no row of tier ", options.tier);
  }

  Outcome run() {
    const int64_t least = options_.seeds > 0
                              ? options_.seeds
                              : (options_.tier == "full" ? study_.full_seeds : study_.quick_seeds);
    MOEKIT_CHECK(!options_.until_decided || options_.max_seeds >= least, "reproduce: --max-seeds ",
                 options_.max_seeds, " is below the ", least, " seeds to begin with");
    const int64_t most = options_.until_decided ? options_.max_seeds : least;
    if (!search()) return stopped();
    outcome_.seeds = least;
    for (outcome_.looks = 1; look(); ++outcome_.looks) {
      if (!can_be_decided() || !outcome_.failures.empty() || outcome_.seeds >= most) {
        return std::move(outcome_);
      }
      outcome_.seeds = more_seeds(outcome_.seeds, most);
    }
    return stopped();
  }

 private:
  /// Whether more seeds could decide a claim: not those that rest on rows with seeds of their own.
  bool can_be_decided() const {
    size_t i = 0;
    for (const auto& claim : study_.claim) {
      if (claim.tier != outcome_.tier) continue;
      if (outcome_.claims[i++].verdict != Verdict::kUndecided) continue;
      for (const auto& check : claim.check) {
        for (const auto& row : rows_) {
          const bool grows = row.seeds == 0 || row.seeds > outcome_.seeds;
          const auto is_side = [&](const std::string& side) {
            return !side.empty() && parse_reference(side, "claim").row == row.name;
          };
          if (grows && (is_side(check.left) || is_side(check.right))) return true;
        }
      }
    }
    return false;
  }

  /// Marks what is there already: only to find that out, a job would load libtorch and its data.
  void mark_done(Plan& plan, const std::vector<Row>& rows, const PlanOptions& options) const {
    std::set<std::string> done;
    for (const auto& row : rows) {
      for (int64_t i = 0; i < options.seeds; ++i) {
        const int64_t seed = options.first_seed + i;
        try {
          if (why_not_there(row, seed, options, recipes_.why_other).empty()) {
            done.insert(run_name(row.name, seed));
          }
        } catch (const Error&) {
          continue;  // of a damaged run its job says what is wrong
        }
      }
    }
    for (auto& job : plan.jobs) {
      // One that was made from a run that is made anew has to be looked at again.
      job.done = done.count(job.name) == 1 &&
                 std::all_of(job.after.begin(), job.after.end(),
                             [&](const auto& before) { return done.count(before) == 1; });
      if (!job.done) done.erase(job.name);
    }
  }

  /// Rows whose search found nothing have no settings to be run with.
  void leave_out_untuned(Plan& plan) const {
    for (const auto& row : rows_) {
      const std::string reason = why_untuned(row.name, outcome_.trials);
      if (reason.empty()) continue;
      plan.missing[row.name] = reason;
      std::erase_if(plan.jobs, [&](const Job& job) { return job.kind == row.name; });
    }
  }

  /// Runs a plan. @return false when the user interrupted
  bool run_plan(Plan& plan, const std::vector<Row>& rows, const PlanOptions& options) {
    if (options_.table_only || plan.jobs.empty()) return true;
    if (!lock_) {
      create_folders(options_.plan.out);
      lock_.emplace(options_.plan.out / "study.lock",
                    concat("a study in ", options_.plan.out.string()));
    }
    mark_done(plan, rows, options);
    outcome_.failures = run_jobs(plan.jobs, options_.parallel, options_.quiet);
    return !interrupted();
  }

  /// Refuses overrides of what is searched: every point would be the same.
  void check_grids() const {
    for (const auto& row : rows_) {
      const Tune* tune = tune_of(study_, row.name);
      if (tune == nullptr) continue;
      for (const auto& [key, values] : tune->grid.items()) {
        for (const auto& value : values) {
          Row point = row;
          point.set.push_back(concat(key, "=", toml_value(value)));
          const auto asked = asked_recipe(point, kFirstTuningSeed, options_.plan);
          auto with_point = asked;
          apply_override(with_point, point.set.back());
          MOEKIT_CHECK(with_point.values == asked.values, "--set: ", key,
                       " is what the study searches for row ", row.name);
        }
      }
    }
  }

  /// Finds the settings of rows that are tuned.
  bool search() {
    const auto trials = trial_rows(study_, rows_);
    if (trials.empty()) return true;
    check_grids();
    PlanOptions plan_options = options_.plan;
    plan_options.first_seed = kFirstTuningSeed;
    for (const auto& trial : trials) {
      plan_options.seeds = std::max(plan_options.seeds, trial.seeds);
    }
    Plan plan = make_plan(trials, plan_options, recipes_.check);
    if (!run_plan(plan, trials, plan_options)) return false;
    std::vector<RowResult> results;
    results.reserve(trials.size());
    for (const auto& trial : trials) {
      results.push_back(summarize_row(trial, study_.figure,
                                      collect_runs(trial, study_.figure, plan_options, plan,
                                                   outcome_.failures, recipes_.why_other)));
    }
    outcome_.trials = choose_trials(study_, rows_, results);
    for (auto& row : rows_) row = tuned_row(std::move(row), outcome_.trials);
    return true;
  }

  /// Runs the present number of seeds and judges them.
  bool look() {
    PlanOptions plan_options = options_.plan;
    plan_options.seeds = outcome_.seeds;
    Plan plan = make_plan(rows_, plan_options, recipes_.check);
    leave_out_untuned(plan);
    if (!run_plan(plan, rows_, plan_options)) return false;
    outcome_.rows.clear();
    for (const auto& row : rows_) {
      if (row.auxiliary) continue;
      outcome_.rows.push_back(summarize_row(row, study_.figure,
                                            collect_runs(row, study_.figure, plan_options, plan,
                                                         outcome_.failures, recipes_.why_other)));
    }
    judge_all(study_, outcome_);
    return true;
  }

  Outcome stopped() {
    Outcome outcome;
    outcome.interrupted = true;
    return outcome;
  }

  const Study& study_;
  const ReproductionOptions& options_;
  const RecipeKnowledge& recipes_;
  std::vector<Row> rows_;
  Outcome outcome_;
  std::optional<FileLock> lock_;  ///< from the first run on
};

/// What a reader has to know of where the runs come from.
std::vector<std::string> notes_of_makers(const std::vector<RowResult>& rows) {
  const auto makers = makers_of(rows);
  if (makers.size() < 2) return {};
  std::string text;
  for (const auto& maker : makers) text += (text.empty() ? "" : "; ") + text_of(maker);
  return {concat("Runs of several versions or machines stand together (", text,
                 "): verdicts may rest on that difference.")};
}

/// Rows whose known values are of another data set than the one that was used.
std::vector<std::string> notes_of(const std::vector<RowResult>& rows) {
  std::set<std::pair<std::string, std::string>> changed;
  for (const auto& row : rows) {
    if (!row.runs.usual_data.empty()) changed.insert({row.runs.usual_data, row.runs.data});
  }
  std::vector<std::string> notes;
  notes.reserve(changed.size());
  for (const auto& [usual, data] : changed) {
    notes.push_back(concat("Data set ", data.empty() ? "(generated)" : data, " in place of ", usual,
                           ": the values of paper and reference, which are of ", usual,
                           ", are left out."));
  }
  return notes;
}

}  // namespace

Outcome reproduce(const Study& study, const ReproductionOptions& options,
                  const RecipeKnowledge& recipes) {
  return Reproducer(study, options, recipes).run();
}

std::string command_of(const Request& request, int64_t seeds) {
  std::string text = concat("moekit reproduce ", request.paper, " --", request.tier);
  if (request.until_decided) {
    if (request.seeds > 0) text += concat(" --seeds ", request.seeds);
    text += concat(" --until-decided --max-seeds ", request.max_seeds);
  } else {
    text += concat(" --seeds ", seeds);
  }
  if (request.rows != "*") text += " --rows " + shell_quoted(request.rows);
  for (const auto& set : request.set) text += " --set " + shell_quoted(set);
  if (request.data) text += " --data DATA";
  if (request.allow_missing) text += " --allow-missing";
  return text;
}

void judge_all(const Study& study, Outcome& outcome) {
  for (auto& row : outcome.rows) {
    row.trials = 0;
    row.trial_runs = 0;
    row.tuned.clear();
    for (const auto& trial : outcome.trials) {
      if (trial.row != row.name) continue;
      ++row.trials;
      row.trial_runs += trial.figure.count;
      if (!trial.chosen) continue;
      for (const auto& part : trial.set) row.tuned += (row.tuned.empty() ? "" : ", ") + part;
    }
  }
  outcome.notes = notes_of(outcome.rows);
  for (auto& note : notes_of_makers(outcome.rows)) outcome.notes.push_back(std::move(note));
  outcome.claims.clear();
  for (const auto& claim : study.claim) {
    if (claim.tier != outcome.tier) continue;
    outcome.claims.push_back(judge(claim, study.figure, outcome.rows, outcome.allow_missing));
  }
}

}  // namespace moekit::study
