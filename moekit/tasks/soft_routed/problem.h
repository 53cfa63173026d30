#pragma once

#include <vector>

#include "moekit/tasks/soft_routed/config.h"
#include "moekit/tasks/soft_routed/pairs.h"
#include "moekit/train/problem.h"

namespace moekit::soft_routed {

/// A student that learns a soft-routed teacher: joint spherical gradient steps on fresh samples,
/// pruning of cancelling pairs, fine-tuning of what is kept. An epoch is the time between two lines
/// of metrics. Source: Liao, Kyrillidis 2025, arXiv:2510.07205.
class SoftRoutedProblem : public train::Problem {
 public:
  explicit SoftRoutedProblem(Config config);

  torch::nn::Module& module() override { return *module_; }
  theory::SoftRouted student() const { return module_->student->rows(); }
  int64_t total_steps() const override { return train_steps_ + config_.fine_tune_steps; }
  int64_t steps_per_epoch() const override;
  int64_t samples(const train::StepKey&) const override { return config_.batch_size; }
  /// Prunes between training and fine-tuning.
  void before_step(const train::LoopState& state) override;
  /// The gradient in closed form; no graph.
  train::StepResult forward(const train::StepKey& key) override;
  void update(torch::optim::Optimizer* optimizer) override;
  /// Notes when overlaps pass the mark.
  void after_step(const train::LoopState& state) override;
  Json evaluate(const train::LoopState& state) override;
  Json finish(const train::LoopState& state, const std::filesystem::path& folder) override;
  Json describe() override;
  void restore(const Json& description, const std::string& where) override;
  Json state() const override;
  void load_state(const Json& state, const std::string& where) override;

 private:
  struct State;
  theory::SoftRouted teacher() const { return module_->teacher->rows(); }
  void end_training();
  void add_recovery(Json& summary) const;
  double gradient_error() const;

  Config config_;
  std::shared_ptr<StudentAndTeacher> module_;
  std::shared_ptr<State> state_;
  torch::Tensor test_;  ///< [test_samples, d]
  int64_t train_steps_ = 0;
  theory::SoftGradient gradient_;
};

}  // namespace moekit::soft_routed
