#include "moekit/study/reproduction.h"

#include <algorithm>
#include <set>

#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/words.h"

namespace moekit::study {
namespace {

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
    rows_ = choose_rows(study, options.tier, options.pattern);
    MOEKIT_CHECK(!rows_.empty(), "reproduce: --rows ", in_quotes(options.pattern),
                 " fits no row of tier ", options.tier);
  }

  Outcome run() {
    const int64_t least = options_.seeds > 0
                              ? options_.seeds
                              : (options_.tier == "full" ? study_.full_seeds : study_.quick_seeds);
    const int64_t most = options_.until_decided ? std::max(options_.max_seeds, least) : least;
    if (!search()) return stopped();
    outcome_.seeds = least;
    for (outcome_.looks = 1; look(); ++outcome_.looks) {
      const bool undecided = tally(outcome_.claims).undecided > 0;
      if (!undecided || !outcome_.failures.empty() || outcome_.seeds >= most) {
        return std::move(outcome_);
      }
      outcome_.seeds = more_seeds(outcome_.seeds, most);
    }
    return stopped();
  }

 private:
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
    for (auto& job : plan.jobs) job.done = done.count(job.name) == 1;
  }

  /// Runs a plan. @return false when the user interrupted
  bool run_plan(Plan& plan, const std::vector<Row>& rows, const PlanOptions& options) {
    if (options_.table_only || plan.jobs.empty()) return true;
    mark_done(plan, rows, options);
    create_folders(options_.plan.out);
    outcome_.failures = run_jobs(plan.jobs, options_.parallel, options_.quiet);
    return !interrupted();
  }

  /// Finds the settings of rows that are tuned.
  bool search() {
    const auto trials = trial_rows(study_, rows_);
    if (trials.empty()) return true;
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
};

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

void judge_all(const Study& study, Outcome& outcome) {
  for (auto& row : outcome.rows) {
    row.trials = 0;
    row.tuned.clear();
    for (const auto& trial : outcome.trials) {
      if (trial.row != row.name) continue;
      ++row.trials;
      if (!trial.chosen) continue;
      for (const auto& part : trial.set) row.tuned += (row.tuned.empty() ? "" : ", ") + part;
    }
  }
  outcome.notes = notes_of(outcome.rows);
  outcome.claims.clear();
  for (const auto& claim : study.claim) {
    if (claim.tier != outcome.tier) continue;
    outcome.claims.push_back(judge(claim, study.figure, outcome.rows, outcome.allow_missing));
  }
}

}  // namespace moekit::study
