#pragma once

#include <string_view>

#include "moekit/train/problem.h"

namespace moekit::train {

class Trainer;

/// A step as it was taken.
struct StepReport {
  double loss = 0;  ///< with the losses on routing
  int64_t samples = 0;
  /// Routings of the step, over all its samples. Without graph where the step had parts.
  std::vector<nn::LayerRouting> layers;
};

/// What papers add to the loop. All are called in the order they were given.
class Callback {
 public:
  virtual ~Callback() = default;
  /// Key of its state in checkpoints.
  virtual std::string_view name() const = 0;
  /// The gradients are there.
  virtual void before_optimizer(Trainer& /*trainer*/, const StepReport& /*report*/) {}
  /// The weights have moved.
  virtual void after_optimizer(Trainer& /*trainer*/, const StepReport& /*report*/) {}
  /// The state counts the step.
  virtual void on_step(Trainer& /*trainer*/, const StepReport& /*report*/) {}
  /// The last step of an epoch is done, its sums are still there.
  virtual void on_epoch(Trainer& /*trainer*/) {}
  /// A line of metrics has been made; may add to it.
  virtual void on_metrics(Trainer& /*trainer*/, Json& /*line*/) {}
  /// The sums are set back: the run stands between two epochs.
  virtual void between_epochs(Trainer& /*trainer*/) {}
  /// The run is over; may add to its summary.
  virtual void on_finish(Trainer& /*trainer*/, Json& /*summary*/) {}

  /// What a checkpoint keeps of it.
  virtual Json state() const { return Json::object(); }
  virtual void load_state(const Json& /*state*/, const std::string& /*where*/) {}
};

/// What callbacks are made for.
struct CallbackSite {
  bool has_validation = false;          ///< lines of metrics have a "validation_loss"
  std::vector<nn::RoutedLayer> layers;  ///< of the model
  uint64_t seed = 1;                    ///< of the run
  int64_t stage_steps = 0;              ///< of each stage, or of the whole run; 0: not known
};

}  // namespace moekit::train
