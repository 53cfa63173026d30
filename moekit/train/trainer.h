#pragma once

#include <torch/optim/optimizer.h>

#include <functional>
#include <memory>
#include <string>

#include "moekit/data/image_dataset.h"
#include "moekit/models/classifier.h"
#include "moekit/nn/surgery.h"
#include "moekit/train/config.h"

namespace moekit::train {

/// Where a training run stands. Saved in checkpoints; everything random is derived from the seed
/// and these counters, so that no generator's state has to be.
struct TrainerState {
  int64_t epoch = 0;    ///< finished epochs
  int64_t batch = 0;    ///< finished batches of the running epoch
  int64_t step = 0;     ///< finished steps in all
  double loss_sum = 0;  ///< of the running epoch: main loss times samples
  double aux_sum = 0;   ///< auxiliary losses times samples
  int64_t wrong = 0;    ///< of the running epoch
  int64_t seen = 0;     ///< samples of the running epoch
  double best_validation = 0;
  int64_t epochs_without_gain = 0;
  double lowest_loss = 0;  ///< training loss of the best epoch so far
  bool stopped_early = false;

  template <typename Field>
  void visit(Field&& field) {
    field("epoch", epoch, "");
    field("batch", batch, "");
    field("step", step, "");
    field("loss_sum", loss_sum, "");
    field("aux_sum", aux_sum, "");
    field("wrong", wrong, "");
    field("seen", seen, "");
    field("best_validation", best_validation, "");
    field("epochs_without_gain", epochs_without_gain, "");
    field("lowest_loss", lowest_loss, "");
    field("stopped_early", stopped_early, "");
  }
};

class Trainer;

/// Called by the trainer; any may be empty. `before_optimizer` runs when the gradients are there,
/// `after_optimizer` when the weights have moved, `on_step` when the counters have; `on_epoch`
/// after the last batch of an epoch. Returning false from on_step or on_epoch ends the run there.
struct TrainerHooks {
  std::function<void(Trainer&)> before_optimizer;
  std::function<void(Trainer&)> after_optimizer;
  std::function<bool(Trainer&, double loss)> on_step;
  std::function<bool(Trainer&)> on_epoch;
};

/// Builds the optimizer a recipe asks for, with its parameter groups, over the parameters that
/// learn. @throws ArgumentError when a group's `match` fits no parameter.
std::unique_ptr<torch::optim::Optimizer> make_optimizer(const TrainConfig& config,
                                                        const torch::nn::Module& model);

/// Factor on the learning rate at a step: warm-up, then the schedule.
double schedule_factor(const TrainConfig& config, int64_t step, int64_t total_steps);

/// Trains a classifier on images by the recipe. Data order, augmentation and noise are functions
/// of the seed and the step, so a run that was stopped goes on to the same numbers.
class Trainer {
 public:
  /// @param frozen  modules that are kept in evaluation mode
  Trainer(RunConfig config, std::shared_ptr<models::ClassifierImpl> model, data::ImageSet train_set,
          data::Normalization normalization, nn::FrozenModules frozen = {});

  /// Trains from `state` to the end, or until a hook stops it.
  /// @throws NumericError naming step and tensor when a loss is not finite.
  void run(const TrainerHooks& hooks);

  TrainerState state;
  int64_t steps_per_epoch() const;
  int64_t total_steps() const { return steps_per_epoch() * config_.train.epochs; }
  models::ClassifierImpl& model() { return *model_; }
  torch::optim::Optimizer& optimizer() { return *optimizer_; }
  const RunConfig& config() const { return config_; }

 private:
  double train_batch(const data::ImageSet& batch, const TrainerHooks& hooks);
  /// Whether the training loss says that the run is over.
  bool loss_says_stop();
  [[noreturn]] void report_non_finite(const std::string& where) const;

  RunConfig config_;
  std::shared_ptr<models::ClassifierImpl> model_;
  data::ImageSet train_set_;
  data::Normalization normalization_;
  nn::FrozenModules frozen_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  std::vector<double> base_lr_;
};

}  // namespace moekit::train
