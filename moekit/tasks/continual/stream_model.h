#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/data/task_stream.h"
#include "moekit/nn/routed_layer.h"
#include "moekit/nn/router.h"

namespace moekit::continual {

/// Examples that are computed together outside of training.
inline constexpr int64_t kAtOnce = 2000;

/// How much the experts of a layer were used in a task.
struct LayerCounts {
  std::string layer;
  std::vector<double> hard;  ///< [E] assignments
};

/// What is trained on a stream: T tasks, each with classes of its own.
class StreamModel : public torch::nn::Module {
 public:
  struct Output {
    torch::Tensor logits;                  ///< [N, classes of the task]
    std::vector<nn::LayerRouting> layers;  ///< routings, where there are any
  };

  /// What of images the model takes. Where all that stands before it is frozen, that is computed
  /// once for every image: without graph, then. @param images [N, 1, S, S] float, 0..1
  virtual torch::Tensor inputs(const torch::Tensor& images) { return images; }
  /// @param inputs [N, ...]  @param task  whose router, head or network is used
  virtual Output forward(const torch::Tensor& inputs, int64_t task,
                         const nn::RouterContext& context) = 0;
  /// Whose router or network answers for a task while `learnt` tasks have been: its own, or of one
  /// to come that of the newest; the classes are the task's. -1 before the first.
  int64_t answers_for(int64_t task, int64_t learnt) const { return std::min(task, learnt - 1); }
  /// As forward(), with another task's router or network. @param by  -1: of none
  virtual torch::Tensor logits_by(const torch::Tensor& inputs, int64_t task, int64_t by) = 0;
  /// D of inputs() where they are frozen features [N, D] and each task has a router; else 0.
  virtual int64_t selectable_features() const { return 0; }
  /// Whether its parameters change their sizes from task to task.
  virtual bool grows() const { return false; }
  /// What learns in a task; also called when a run goes on within it.
  virtual void enter_task(int64_t task) = 0;
  /// A task has been learnt.
  virtual void end_task(int64_t /*task*/, const std::vector<LayerCounts>& /*counts*/) {}
  /// What checkpoints keep beside tensors.
  virtual Json state() const { return Json::object(); }
  virtual void load_state(const Json& /*state*/, const std::string& /*where*/) {}
};

/// What stream models are made for.
struct StreamSite {
  int64_t num_tasks = 0;
  int64_t side = 28;
  std::vector<std::string> task_names;
  std::vector<int64_t> num_classes;  ///< of each task
  uint64_t seed = 1;
  const data::TaskStream* stream = nullptr;  ///< null where a recipe is checked before data is read
};

/// The table of models.
struct StreamModelKinds {
  using Row = Kind<std::shared_ptr<StreamModel>, StreamSite>;
  static constexpr const char* kDefault = "adapters";
  static constexpr const char* kWhat = "model";
  static constexpr const char* kDoc = "what learns the tasks";
  static constexpr const char* kOptionsKey = "";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::continual
