#pragma once

#include <torch/nn/modules/linear.h>

#include <vector>

#include "moekit/core/field_rule.h"
#include "moekit/tasks/continual/stream_model.h"

namespace moekit::continual {

/// Tells from examples alone which task they are of, so that nobody has to say which router is
/// meant. One autoencoder a task reconstructs the sigmoid of the frozen features; the task whose
/// mean error over a batch is the least is taken, and none where even that is above what nearly all
/// batches of the task's own images reach: such images are answered by the frozen network.
/// Source: Yu et al. 2024, arXiv:2403.11549, section 3.3 (DDAS). Its fixed threshold is a
/// percentile of the task's own batches here, and its first autoencoder, trained on images of no
/// task, is left out.
struct SelectorConfig {
  bool on = false;
  int64_t hidden = 100;
  int64_t steps = 300;
  int64_t batch_size = 64;
  double lr = 0.01;
  double percentile = 99;
  std::vector<int64_t> batches = {1, 128};

  template <typename Field>
  void visit(Field&& field) {
    field("on", on, "also find out the task of test images instead of being told");
    field("hidden", hidden, "units of an autoencoder's hidden layer", at_least(1));
    field("steps", steps, "it is trained, by Adam", at_least(1));
    field("batch_size", batch_size, "of that", at_least(1));
    field("lr", lr, "of that", above(0));
    field("percentile", percentile,
          "of the errors of a task's own batches, above which one is of no task", at_least(0, 100));
    field("batches", batches,
          "test images that are decided on together: with more than one the decision leaks that "
          "they are of one task",
          at_least(1));
  }
};

/// Refuses keys without effect, and a model that has no frozen features. @throws ArgumentError
void check_selector(const SelectorConfig& config, bool has_routers, const std::string& where);

/// The autoencoders of all tasks, as a module, so that checkpoints have them.
class SelectorImpl : public torch::nn::Module {
 public:
  /// @param features  D of the frozen features
  SelectorImpl(const SelectorConfig& config, int64_t num_tasks, int64_t features, uint64_t seed);
  /// Trains the autoencoder of a task. A tenth of its examples gives the threshold.
  /// @param inputs [N, D] of its training images
  void learn(int64_t task, const torch::Tensor& inputs);
  /// The task of each example, -1 for none; they are decided on batch by batch, in order.
  /// @param inputs [N, D]  @param learnt  tasks there are autoencoders of
  /// @param size  which of the sizes of batches @return [N] int64
  torch::Tensor choose(const torch::Tensor& inputs, int64_t learnt, size_t size);

 private:
  /// Mean square error of each example. @param inputs [N, D] @return [N]
  torch::Tensor errors(int64_t task, const torch::Tensor& inputs);

  SelectorConfig config_;
  uint64_t seed_;
  std::vector<torch::nn::Linear> encoders_, decoders_;
  torch::Tensor thresholds_;  ///< [T, sizes of batches]
};
TORCH_MODULE(Selector);

}  // namespace moekit::continual
