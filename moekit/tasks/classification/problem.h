#pragma once

#include <memory>

#include "moekit/nn/surgery.h"
#include "moekit/tasks/classification/config.h"
#include "moekit/tasks/classification/evaluate.h"
#include "moekit/tasks/classification/run_data.h"
#include "moekit/train/problem.h"

namespace moekit::classification {

/// Images, a network that classifies them, and how it is judged.
class ClassificationProblem : public train::Problem {
 public:
  /// Builds the network with its first weights.
  /// @throws ArgumentError naming the key when recipe, data and model do not fit together.
  ClassificationProblem(Config config, RunData data);

  torch::nn::Module& module() override { return *model_; }
  int64_t total_steps() const override;
  int64_t steps_per_epoch() const override;
  int64_t samples(const train::StepKey& key) const override;
  void start_training() override;
  train::StepResult forward(const train::StepKey& key) override;
  Json evaluate(const train::LoopState& state) override;
  Json finish(const train::LoopState& state, const std::filesystem::path& folder) override;
  Json describe() override;
  void restore(const Json& description, const std::string& where) override;

  models::ClassifierImpl& classifier() { return *model_; }
  const Config& config() const { return config_; }
  const RunData& data() const { return data_; }
  /// Figures of an evaluation of this model.
  Json summarize(const Evaluation& evaluation) const;

 private:
  /// The step's part of the training images.
  data::ImageSet batch(const train::StepKey& key);

  Config config_;
  RunData data_;
  std::shared_ptr<models::ClassifierImpl> model_;
  nn::FrozenModules frozen_;
  torch::Tensor order_;  ///< of the training images in `order_epoch_`
  int64_t order_epoch_ = -1;
};

}  // namespace moekit::classification
