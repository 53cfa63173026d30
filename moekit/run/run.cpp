#include "moekit/run/run.h"

#include <chrono>
#include <optional>

#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/work_status.h"
#include "moekit/events/event_log.h"
#include "moekit/run/checkpoint.h"
#include "moekit/tensor/memory.h"
#include "moekit/train/callbacks/silent_parameters.h"

namespace moekit::run {
namespace fs = std::filesystem;
namespace {

/// Checkpoints that a running run keeps: should the newest be damaged, there is another.
constexpr int64_t kNewestKept = 2;
constexpr double kStatusSeconds = 1;  // between two writings of the status file

/// "a" for "runs/a" and "runs/a/".
std::string name_of(const fs::path& folder) {
  return (folder.has_filename() ? folder : folder.parent_path()).filename().string();
}

/// Shows how far the run is, on stderr and in the status file.
class Reporter {
 public:
  Reporter(const train::Problem& problem, const RunOptions& options)
      : name_(name_of(options.folder)),
        file_(options.status),
        line_(options.quiet),
        pace_(problem.total_steps(), problem.steps_per_epoch()) {}
  void start(const train::LoopState& state) {
    pace_.start_at(state.step);
    if (!file_.empty()) write_status(file_, pace_.status(state.epoch, state.step, 0));
  }
  void on_step(const train::LoopState& state, double loss) {
    loss_ = loss;
    const bool write = !file_.empty() && steady_seconds() - written_ >= kStatusSeconds;
    if (!write && !line_.is_due()) return;
    const auto status = pace_.status(state.epoch, state.step, loss);
    line_.show(concat(name_, ": ", describe(status)));
    if (!write) return;
    written_ = steady_seconds();
    tell(status);
  }
  void end_epoch(const train::LoopState& state) { pace_.end_epoch(state.step); }
  /// So that whoever waits sees the last step, too.
  void end(const train::LoopState& state) {
    if (!file_.empty()) tell(pace_.status(state.epoch, state.step, loss_));
  }

 private:
  void tell(const WorkStatus& status) const {
    try {
      write_status(file_, status);
    } catch (const IoError&) {  // it could be written at the start: a full disk ends no run
    }
  }

  std::string name_;
  fs::path file_;
  ProgressLine line_;
  Pace pace_;
  double written_ = 0;
  double loss_ = 0;  ///< of the last step
};

/// Looks at the run, writes metrics and checkpoints, and stops it when the user asks.
class Recorder : public train::Callback {
 public:
  Recorder(const RunPlan& plan, const RunOptions& options, RunFolder& folder)
      : plan_(plan), options_(options), folder_(folder), reporter_(*plan.problem, options) {}
  std::string_view name() const override { return "recorder"; }

  /// The first line of metrics of a new run, or where an old one stood.
  void start(train::Trainer& trainer, bool exists) {
    if (exists) load_newest_checkpoint(options_.folder, trainer, metrics_, options_.notice);
    if (plan_.events) events_.emplace(options_.folder, metrics_);
    reporter_.start(trainer.state);
    if (trainer.state.step == 0) add_line(trainer);
  }

  void on_step(train::Trainer& trainer, const train::StepReport& report) override {
    folder_.keep();
    reporter_.on_step(trainer.state, report.loss);
    if (trainer.is_epoch_over()) return;  // between_epochs() saves, where it is due
    if (interrupted()) trainer.pause();
    if (interrupted() || is_save_step(trainer)) save(trainer);
  }

  void on_epoch(train::Trainer& trainer) override {
    tested_ = trainer.state.epoch % plan_.evaluate_every == 0 || trainer.is_over();
    if (tested_) add_line(trainer);
  }

  void between_epochs(train::Trainer& trainer) override {
    const bool stop = interrupted() && !trainer.is_over();
    if (stop) trainer.pause();
    if (stop || (tested_ && plan_.save_after_epochs) || is_save_step(trainer)) save(trainer);
    if (tested_ && plan_.save_after_epochs) write_metrics(options_.folder, metrics_);
    reporter_.end_epoch(trainer.state);
  }

  void remove_old(int64_t newest) const {
    remove_checkpoints(options_.folder, plan_.keep_every * plan_.problem->steps_per_epoch(),
                       newest);
  }

  const std::vector<Json>& metrics() const { return metrics_; }
  void finish(const train::LoopState& state) { reporter_.end(state); }

 private:
  bool is_save_step(train::Trainer& trainer) const {
    // Not after a last epoch that was cut short: a longer run has no epoch that ends there.
    const bool cut =
        trainer.state.batch == 0 && trainer.state.step % trainer.problem().steps_per_epoch() != 0;
    return plan_.checkpoint_steps > 0 && !cut && trainer.state.step % plan_.checkpoint_steps == 0;
  }
  void add_line(train::Trainer& trainer) {
    Json line = trainer.problem().evaluate(trainer.state);
    if (line.is_null()) return;
    for (auto* callback : trainer.callbacks()) callback->on_metrics(trainer, line);
    metrics_.push_back(std::move(line));
    if (events_) events_->append(metrics_.back());
  }
  void save(train::Trainer& trainer) {
    save_checkpoint(options_.folder, trainer, metrics_);
    remove_old(kNewestKept);
  }

  const RunPlan& plan_;
  const RunOptions& options_;
  RunFolder& folder_;
  Reporter reporter_;
  std::vector<Json> metrics_;
  std::optional<events::EventLog> events_;
  bool tested_ = false;
};

/// Also of a quiet run: what it trains is not what was asked for.
void warn_of_silence(const RunOptions& options, const std::vector<std::string>& names,
                     int64_t epoch) {
  if (!options.notice) return;
  std::string all;
  for (const auto& name : names) all += (all.empty() ? "" : ", ") + name;
  options.notice(concat(name_of(options.folder), ": warning: no gradient in the whole of epoch ",
                        epoch, ": ", all, "; nothing trains what should learn"));
}

/// Of a run that is to be extended. @param step, stopped  where it stands
void check_something_is_left(const RunPlan& plan, const RunOptions& options, int64_t step,
                             bool stopped) {
  const int64_t total = plan.problem->total_steps();
  // At the end itself, only what is done there is done again: judging, say.
  MOEKIT_CHECK(step <= total && !(stopped && step < total), options.folder.string(), ": has taken ",
               step, " steps", stopped ? " and stopped early" : "", "; the changed recipe has ",
               total, " and leaves nothing to do");
  MOEKIT_CHECK(step >= 0 || !fs::exists(options.folder / "summary.json"), options.folder.string(),
               ": is finished and keeps no checkpoint from which it could go on");
}

int64_t newest_step(const fs::path& folder) {
  const auto checkpoints = list_checkpoints(folder);
  return checkpoints.empty() ? -1 : checkpoints.rbegin()->first;
}

/// The status file is renamed over what stands there: only over one of its kind, and never in the
/// run's folder, whose files and folders have names of their own.
void check_status_file(const RunOptions& options) {
  if (options.status.empty()) return;
  const std::string named = concat("--status ", options.status.string(), ": ");
  std::error_code error;
  const fs::path folder = fs::weakly_canonical(options.folder, error);
  for (fs::path at = fs::weakly_canonical(options.status, error); at.has_relative_path();
       at = at.parent_path()) {
    MOEKIT_CHECK(at != folder, named, "lies in the run's folder; name one outside");
  }
  const auto kind = fs::symlink_status(options.status, error).type();
  if (kind == fs::file_type::not_found) return;
  MOEKIT_CHECK(kind == fs::file_type::regular, named, "is no regular file");
  MOEKIT_CHECK(fs::file_size(options.status, error) == 0 || read_status(options.status), named,
               "holds something else, which would be lost");
}

}  // namespace

void train_by(const train::TrainConfig& loop, torch::nn::Module& module, RunPlan& plan) {
  plan.optimizer = train::make_optimizer(loop, module);
  plan.trainer = train::trainer_options(loop, static_cast<uint64_t>(plan.seed));
  plan.evaluate_every = loop.evaluate_every;
  plan.checkpoint_steps = loop.checkpoint_steps;
  plan.keep_every = loop.keep_every;
}

RunStatus run(RunPlan plan, const RunOptions& options) {
  const auto started = std::chrono::steady_clock::now();
  check_status_file(options);
  RunFolder folder(options.folder);
  const Claim claim = claim_run_folder(plan.recipe, plan.seed, plan.threads, options);
  if (claim == Claim::kSame && fs::exists(options.folder / "summary.json")) {
    return RunStatus::kFinished;
  }
  Recorder recorder(plan, options, folder);
  train::SilentParameters silence([&](const std::vector<std::string>& names, int64_t epoch) {
    warn_of_silence(options, names, epoch);
  });
  // First: it looks at gradients as they come.
  std::vector<train::Callback*> callbacks = {&silence};
  for (const auto& callback : plan.callbacks) {
    if (callback) callbacks.push_back(callback.get());
  }
  callbacks.push_back(&recorder);  // last: it saves what the others did
  train::Trainer trainer(*plan.problem, std::move(plan.optimizer), plan.trainer,
                         std::move(plan.losses), std::move(callbacks));
  const bool extends = claim == Claim::kExtends;
  // Before a checkpoint is read: one beyond the end of the run is not sound.
  if (extends) check_something_is_left(plan, options, newest_step(options.folder), false);
  recorder.start(trainer, claim != Claim::kNew);
  if (extends) {
    const auto& state = trainer.state;
    check_something_is_left(plan, options, state.step, state.stopped_early);
    extend_run_folder(plan.recipe, options);
  }
  const bool finished = tensor::within_memory("a training step", plan.recipe.values, "",
                                              [&] { return trainer.run(); });
  write_metrics(options.folder, recorder.metrics());
  if (!finished) return RunStatus::kInterrupted;

  Json summary = plan.problem->finish(trainer.state, options.folder);
  for (auto* callback : trainer.callbacks()) callback->on_finish(trainer, summary);
  FolderTransaction transaction(options.folder / "model");
  save_model(transaction.path(), *plan.problem);
  transaction.commit();
  recorder.remove_old(1);
  summary["seconds"] =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  write_json(options.folder / "summary.json", summary);
  recorder.finish(trainer.state);
  folder.keep();
  return RunStatus::kFinished;
}

}  // namespace moekit::run
