#include "moekit/run/run.h"

#include <chrono>
#include <cmath>

#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/progress.h"
#include "moekit/run/checkpoint.h"

namespace moekit::run {
namespace fs = std::filesystem;
namespace {

/// Looks at the run, writes metrics and checkpoints, and stops it when the user asks.
class Recorder : public train::Callback {
 public:
  Recorder(const RunPlan& plan, const RunOptions& options)
      : plan_(plan),
        options_(options),
        progress_(options.folder.filename().string(), plan.problem->total_steps(), options.quiet) {}
  std::string_view name() const override { return "recorder"; }

  /// The first line of metrics of a new run, or where an old one stood.
  void start(train::Trainer& trainer, bool exists) {
    if (exists) {
      const auto checkpoints = list_checkpoints(options_.folder);
      if (!checkpoints.empty()) load_checkpoint(checkpoints.rbegin()->second, trainer, metrics_);
    }
    progress_.start_at(trainer.state.step);
    if (trainer.state.step == 0) add_line(trainer);
  }

  void on_step(train::Trainer& trainer, const train::StepReport& report) override {
    progress_.update(trainer.state.step, concat("loss ", std::round(report.loss * 1e4) / 1e4));
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
  }

  const std::vector<Json>& metrics() const { return metrics_; }

 private:
  bool is_save_step(const train::Trainer& trainer) const {
    return plan_.checkpoint_steps > 0 && trainer.state.step % plan_.checkpoint_steps == 0;
  }
  void add_line(train::Trainer& trainer) {
    Json line = trainer.problem().evaluate(trainer.state);
    if (line.is_null()) return;
    for (auto* callback : trainer.callbacks()) callback->on_metrics(trainer, line);
    metrics_.push_back(std::move(line));
  }
  void save(train::Trainer& trainer) {
    save_checkpoint(options_.folder, trainer, metrics_);
    remove_checkpoints(options_.folder, plan_.keep_every * plan_.problem->steps_per_epoch());
  }

  const RunPlan& plan_;
  const RunOptions& options_;
  Progress progress_;
  std::vector<Json> metrics_;
  bool tested_ = false;
};

}  // namespace

RunStatus run(RunPlan plan, const RunOptions& options) {
  const auto started = std::chrono::steady_clock::now();
  const bool exists = claim_run_folder(plan.recipe, plan.seed, plan.threads, options);
  if (exists && fs::exists(options.folder / "summary.json")) return RunStatus::kFinished;
  Recorder recorder(plan, options);
  std::vector<train::Callback*> callbacks;
  for (const auto& callback : plan.callbacks) {
    if (callback) callbacks.push_back(callback.get());
  }
  callbacks.push_back(&recorder);  // last: it saves what the others did
  train::Trainer trainer(*plan.problem, std::move(plan.optimizer), plan.trainer,
                         std::move(plan.losses), std::move(callbacks));
  recorder.start(trainer, exists);
  const bool finished = trainer.run();
  write_metrics(options.folder, recorder.metrics());
  if (!finished) return RunStatus::kInterrupted;

  Json summary = plan.problem->finish(trainer.state, options.folder);
  for (auto* callback : trainer.callbacks()) callback->on_finish(trainer, summary);
  FolderTransaction transaction(options.folder / "model");
  save_model(transaction.path(), *plan.problem);
  transaction.commit();
  summary["seconds"] =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  write_json(options.folder / "summary.json", summary);
  return RunStatus::kFinished;
}

}  // namespace moekit::run
