#pragma once

#include <torch/nn/module.h>

#include "moekit/tasks/merged_linear/config.h"
#include "moekit/train/problem.h"

namespace moekit::merged_linear {

/// Linear layers of experts, merged against routed: nothing is trained, finish() measures. Source:
/// He et al. 2023, arXiv:2310.09832.
class MergedLinearProblem : public train::Problem {
 public:
  explicit MergedLinearProblem(Config config);

  /// Empty: the layer that is measured is drawn again from its seed.
  torch::nn::Module& module() override { return *module_; }
  int64_t total_steps() const override { return 0; }
  int64_t steps_per_epoch() const override { return 1; }
  int64_t samples(const train::StepKey&) const override { return config_.layer.sequences; }
  /// @throws Error: there is no step
  train::StepResult forward(const train::StepKey& key) override;
  Json evaluate(const train::LoopState&) override { return nullptr; }
  Json finish(const train::LoopState& state, const std::filesystem::path& folder) override;
  Json describe() override { return Json::object(); }
  void restore(const Json&, const std::string&) override {}

 private:
  Config config_;
  std::shared_ptr<torch::nn::Module> module_;
};

}  // namespace moekit::merged_linear
