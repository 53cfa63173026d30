#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <vector>

namespace moekit::continual {

/// The state in which a model did best in a task, kept beside it: a copy of every parameter and
/// buffer, in checkpoints too.
class BestStateImpl : public torch::nn::Module {
 public:
  /// Copies what the model has now. @param model  lives as long as this
  explicit BestStateImpl(torch::nn::Module& model);
  /// Takes the sizes that the model's tensors have now.
  void fit();
  /// The model is best as it is.
  void keep();
  /// Makes the model what it was when it was best.
  void give_back();

 private:
  torch::nn::Module& model_;
  std::vector<torch::Tensor> copies_;
};
TORCH_MODULE(BestState);

}  // namespace moekit::continual
