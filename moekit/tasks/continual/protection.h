#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/tasks/continual/stream_model.h"

namespace moekit::continual {

/// Training examples of a task as the model takes them.
struct Examples {
  torch::Tensor inputs;  ///< [N, ...]
  torch::Tensor labels;  ///< [N] int64
};

/// One step's examples of the task at hand.
struct StepExamples {
  int64_t task = 0;
  int64_t step = 0;     ///< of the run
  torch::Tensor index;  ///< [N] int64, rows of the task's training set
  Examples examples;
  StreamModel::Output output;  ///< of them
};

/// What shall keep earlier tasks from being forgotten. A module, so that checkpoints have its
/// tensors. Source of the terms: Kirkpatrick et al. 2017, Li & Hoiem 2016, see each.
class Protection : public torch::nn::Module {
 public:
  /// Before the first step of a task.
  virtual void begin_task(StreamModel& /*model*/, int64_t /*task*/) {}
  /// Added to the loss of a step; a scalar, undefined where there is nothing to add yet.
  virtual torch::Tensor loss(StreamModel& model, const StepExamples& step) = 0;
  /// After the last step of a task.
  virtual void end_task(StreamModel& /*model*/, int64_t /*task*/) {}
};

/// What protections are made for.
struct ProtectionSite {
  /// Training examples of each task; empty where a recipe is checked before data is read.
  std::vector<int64_t> train_sizes;
  std::vector<int64_t> num_classes;  ///< of each task
  uint64_t seed = 1;
  StreamModel* model = nullptr;
  /// @param index [N] int64, rows of a task's training set
  std::function<Examples(int64_t task, const torch::Tensor& index)> examples;
};

/// The table of protections; each brings its keys to the section `protect`, and makes nothing where
/// it is not asked for.
struct ProtectionKinds {
  using Row = Kind<std::shared_ptr<Protection>, ProtectionSite>;
  static constexpr const char* kWhat = "protection";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::continual
