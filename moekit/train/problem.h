#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/nn/routed_layer.h"

namespace moekit::train {

/// Which step is taken. Everything random in it is a function of the run's seed and of this, so
/// that a run that was stopped goes on to the same numbers.
struct StepKey {
  int64_t epoch = 0;  ///< from 0
  int64_t batch = 0;  ///< of the epoch
  int64_t step = 0;   ///< of the run
  /// Part `part` of `parts` of the step's samples, one after the other; their gradients add up.
  int64_t part = 0;
  int64_t parts = 1;
  at::Generator generator;  ///< draws the routers' noise; goes on from part to part
};

/// What one step, or one part of it, found.
struct StepResult {
  torch::Tensor loss;  ///< mean over the samples, without losses on routing; a scalar
  int64_t samples = 0;
  std::vector<nn::LayerRouting> layers;              ///< routings that the losses act on
  std::vector<std::pair<std::string, double>> sums;  ///< figures that add up over an epoch
};

/// Where a run stands. Saved in checkpoints.
struct LoopState {
  int64_t epoch = 0;           ///< finished epochs
  int64_t batch = 0;           ///< finished steps of the running epoch
  int64_t step = 0;            ///< finished steps in all
  double loss_sum = 0;         ///< of the running epoch: loss times samples
  double aux_sum = 0;          ///< losses on routing times samples
  int64_t seen = 0;            ///< samples of the running epoch
  Json sums = Json::object();  ///< of the running epoch, see StepResult
  double last_loss = 0;        ///< of the last step, without losses on routing
  bool stopped_early = false;

  double mean_loss() const { return loss_sum / static_cast<double>(std::max<int64_t>(seen, 1)); }
  double mean_of(const char* sum) const {
    return sums.value(sum, 0.0) / static_cast<double>(std::max<int64_t>(seen, 1));
  }
  template <typename Field>
  void visit(Field&& field) {
    field("epoch", epoch, "");
    field("batch", batch, "");
    field("step", step, "");
    field("loss_sum", loss_sum, "");
    field("aux_sum", aux_sum, "");
    field("seen", seen, "");
    field("sums", sums, "");
    field("last_loss", last_loss, "");
    field("stopped_early", stopped_early, "");
  }
};

/// Steps that belong together, as those of one task of a stream: the learning rate's warm-up and
/// schedule run over them, and at the first of them an optimizer remembers nothing.
struct Stage {
  int64_t first = 0;    ///< step of the run
  int64_t steps = 0;    ///< how many
  double lr_scale = 1;  ///< times the learning rate
};

/// What is trained. The loop (`Trainer`) knows steps and losses, a Problem everything else; a task
/// implements one.
class Problem {
 public:
  virtual ~Problem() = default;
  virtual torch::nn::Module& module() = 0;
  virtual int64_t total_steps() const = 0;
  /// Of an epoch, the time between looks at the run; the last epoch may be shorter.
  virtual int64_t steps_per_epoch() const = 0;
  /// The stage of a step. The whole run is one unless a problem says otherwise.
  virtual Stage stage(int64_t /*step*/) const { return {0, total_steps(), 1}; }
  /// Samples of a step, its parts together.
  virtual int64_t samples(const StepKey& key) const = 0;

  /// Puts the module into training mode, at the start and after every epoch.
  virtual void start_training() { module().train(); }
  /// Before a step, for changes of the model at some point of the run.
  virtual void before_step(const LoopState& /*state*/) {}
  virtual StepResult forward(const StepKey& key) = 0;
  /// Moves the weights, once the gradients are there. @param optimizer  null where there is none
  virtual void update(torch::optim::Optimizer* optimizer) { optimizer->step(); }
  /// After a step, when the state counts it.
  virtual void after_step(const LoopState& /*state*/) {}

  /// One line of metrics.jsonl, an object with the state's "step": after an epoch, and before the
  /// first step; null for none.
  virtual Json evaluate(const LoopState& state) = 0;
  /// Figures of the finished run, for summary.json; other files of its own go into `folder`.
  virtual Json finish(const LoopState& state, const std::filesystem::path& folder) = 0;

  /// What config.json says of the model, and the model of that shape again.
  /// @throws FormatError naming `where` when it does not fit.
  virtual Json describe() = 0;
  virtual void restore(const Json& description, const std::string& where) = 0;
  /// What else a checkpoint has to keep.
  virtual Json state() const { return Json::object(); }
  virtual void load_state(const Json& /*state*/, const std::string& /*where*/) {}
};

}  // namespace moekit::train
