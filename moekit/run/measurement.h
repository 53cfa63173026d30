#pragma once

#include <torch/nn/module.h>

#include <functional>

#include "moekit/run/run.h"

namespace moekit::run {

/// A run that trains nothing: what it does is measured at its end, for summary.json.
class Measurement : public train::Problem {
 public:
  /// @param name  of the task, for messages @param measure  gives the summary's own figures
  Measurement(std::string name, std::function<Json()> measure);

  /// Empty: what is measured is made where it is measured.
  torch::nn::Module& module() override { return *module_; }
  int64_t total_steps() const override { return 0; }
  int64_t steps_per_epoch() const override { return 1; }
  int64_t samples(const train::StepKey&) const override { return 0; }
  /// @throws ArgumentError: there is no step
  train::StepResult forward(const train::StepKey& key) override;
  Json evaluate(const train::LoopState&) override { return nullptr; }
  Json finish(const train::LoopState&, const std::filesystem::path&) override { return measure_(); }
  Json describe() override { return Json::object(); }
  void restore(const Json&, const std::string&) override {}

 private:
  std::function<Json()> measure_;
  std::shared_ptr<torch::nn::Module> module_;
};

/// Such a run in its folder.
template <typename Config>
RunStatus measure(const Config& config, RunRecipe recipe, std::function<Json()> figures,
                  const RunOptions& options) {
  Measurement problem(config.task, std::move(figures));
  auto plan = plan_of(config, std::move(recipe), problem);
  return run(std::move(plan), options);
}

}  // namespace moekit::run
