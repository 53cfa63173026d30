#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "moekit/nn/losses/aux_loss.h"
#include "moekit/train/callback.h"

namespace moekit::train {

struct TrainerOptions {
  uint64_t seed = 1;
  double clip_norm = 0;      ///< largest norm of all gradients together; 0: no limit
  int64_t accumulate = 1;    ///< parts of a step
  int64_t warmup_steps = 0;  ///< steps of a stage in which the learning rate rises
  /// Factor on the learning rate by the share of a stage's steps after warm-up that are done.
  std::function<double(double)> schedule = [](double) { return 1.0; };
};

/// The loop: forward, losses on routing, backward, update; over epochs until the problem's steps
/// are done or a callback stops it. Knows no model and no data.
///
/// With `accumulate` a step is taken in parts whose gradients add up, for batches that do not fit
/// into memory. Losses on routing are those of the whole batch: a first pass without graph collects
/// the parts' routings, the losses' gradients with respect to them are taken once, and the second
/// pass pulls them back. Equal to the step in one part within rounding, except where a model looks
/// across samples itself: capacities and batch normalisation act part by part, and a router's
/// Gaussian noise is another draw (libtorch draws it in blocks that depend on the tensor's size).
class Trainer {
 public:
  /// @param optimizer  null where the problem's update() needs none
  /// @param callbacks  must outlive the trainer
  Trainer(Problem& problem, std::unique_ptr<torch::optim::Optimizer> optimizer,
          TrainerOptions options, std::vector<nn::AuxLoss> losses,
          std::vector<Callback*> callbacks = {});

  /// Goes on from `state` to the end. @return whether the end was reached, and not a pause
  /// @throws NumericError naming step and tensor when a loss is not finite.
  bool run();
  /// Ends the run after the running epoch's callbacks.
  void stop_early() { state.stopped_early = true; }
  /// For before_optimizer: the weights stay as they are in this step.
  void skip_update() { skip_update_ = true; }
  /// Leaves run() before the next step; a later call goes on.
  void pause() { paused_ = true; }
  bool is_over() const { return state.step >= problem_.total_steps() || state.stopped_early; }
  /// Whether the running epoch's last step is done.
  bool is_epoch_over() const;

  LoopState state;
  Problem& problem() { return problem_; }
  torch::optim::Optimizer* optimizer() { return optimizer_.get(); }
  const std::vector<Callback*>& callbacks() const { return callbacks_; }

 private:
  struct Totals {
    double loss = 0;  ///< without losses on routing
    double aux = 0;
    StepReport report;
  };
  void step();
  void end_epoch();
  StepKey key() const;
  Totals take_whole(StepKey key);
  Totals take_parts(StepKey key, int64_t parts);
  /// Values of the terms, each checked. @return their sum
  double checked_sum(const std::vector<nn::AuxLossTerm>& terms, const std::string& layer);
  void count(const StepResult& result);
  void prepare_optimizer();
  [[noreturn]] void report_non_finite(const std::string& where) const;

  Problem& problem_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  TrainerOptions options_;
  std::vector<nn::AuxLoss> losses_;
  std::vector<Callback*> callbacks_;
  std::vector<double> base_lr_;
  std::vector<std::shared_ptr<nn::ExpertsImpl>> banks_;
  std::vector<std::shared_ptr<nn::RouterImpl>> routers_;
  bool paused_ = false;
  bool skip_update_ = false;
};

}  // namespace moekit::train
