#pragma once

#include <memory>
#include <vector>

#include "moekit/merge/usage.h"
#include "moekit/metrics/continual.h"
#include "moekit/tasks/continual/best_state.h"
#include "moekit/tasks/continual/config.h"
#include "moekit/tasks/continual/selector.h"
#include "moekit/train/problem.h"

namespace moekit::continual {

/// Tasks learnt one after another, an epoch and a stage each, and the accuracy on all of them after
/// each. Source of the protocol: Zheng et al. 2023, arXiv:2303.06628 (MTIL).
class ContinualProblem : public train::Problem {
 public:
  /// Builds the model, and trains the network it starts from.
  /// @throws ArgumentError naming the key when recipe and data do not fit together.
  ContinualProblem(Config config, data::TaskStream stream);

  torch::nn::Module& module() override { return *module_; }
  StreamModel& model() { return *model_; }
  int64_t total_steps() const override { return num_tasks() * config_.train.steps; }
  int64_t steps_per_epoch() const override { return config_.train.steps; }
  train::Stage stage(int64_t step) const override;
  int64_t samples(const train::StepKey& key) const override;
  void start_training() override;
  void before_step(const train::LoopState& state) override;
  train::StepResult forward(const train::StepKey& key) override;
  void after_step(const train::LoopState& state) override;
  Json evaluate(const train::LoopState& state) override;
  Json finish(const train::LoopState& state, const std::filesystem::path& folder) override;
  Json describe() override;
  void restore(const Json& description, const std::string& where) override;
  Json state() const override;
  void load_state(const Json& state, const std::string& where) override;

  enum class Part { kValidation, kTest };
  /// Accuracy in per cent on a part of each task. @param learnt  tasks learnt so far
  std::vector<double> accuracies(Part part, int64_t learnt);
  /// Accuracy in per cent on a part of one task. @param by  whose router or network answers
  double accuracy(Part part, int64_t task, int64_t by);
  /// The same with the selector in place of being told the task.
  /// @param size  which of its sizes of batches
  struct Selected {
    std::vector<double> accuracy;  ///< [T]
    /// [T] per cent of images whose task was found; of a task to come, that were taken for none.
    std::vector<double> right;
  };
  Selected selected_accuracies(int64_t learnt, size_t size);
  const data::TaskStream& stream() const { return stream_; }

 private:
  struct State;
  int64_t num_tasks() const { return static_cast<int64_t>(stream_.tasks.size()); }
  Examples examples(int64_t task, const torch::Tensor& index);
  /// What the model takes of a task's training images.
  const torch::Tensor& training_inputs(int64_t task);
  const torch::Tensor& part_inputs(Part part, int64_t task);
  void look_for_best(int64_t step_of_task);
  Json selector_summary() const;
  torch::Tensor model_inputs(const torch::Tensor& images);
  torch::Tensor batch_index(const train::StepKey& key);
  void check_matrix_state(const std::string& where) const;

  Config config_;
  data::TaskStream stream_;
  std::shared_ptr<StreamModel> model_;
  Selector selector_{nullptr};                 ///< null where none is asked for
  BestState best_{nullptr};                    ///< null where tasks end in their last state
  std::shared_ptr<torch::nn::Module> module_;  ///< the model and what is kept beside it
  std::vector<std::shared_ptr<Protection>> protections_;
  /// [T] each, made when they are needed.
  std::vector<torch::Tensor> train_inputs_, validation_inputs_, test_inputs_;
  torch::Tensor order_;  ///< of the examples of a task in the pass `order_seed_` stands for
  uint64_t order_seed_ = 0;
  merge::UsageCounter usage_;
  std::shared_ptr<State> state_;
};

/// Figures of an accuracy matrix in per cent as they stand in a summary; those that are not defined
/// for one task are left out then.
Json continual_figures(const metrics::AccuracyMatrix& accuracy);

}  // namespace moekit::continual
