#pragma once

#include <torch/nn/modules/container/any.h>
#include <torch/nn/pimpl.h>

#include <vector>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts.h"

namespace moekit::nn {

/// Experts that differ: any modules tensor -> [N, output_size], run one after the other.
/// For experts that are alike the stacked banks are many times faster.
class ExpertListImpl : public Cloneable<ExpertListImpl, ExpertsImpl> {
 public:
  /// The list keeps its own deep copies of `experts`.
  /// @throws ArgumentError for an empty list.
  ExpertListImpl(std::vector<torch::nn::AnyModule> experts, int64_t output_size);
  void reset() override;
  /// Draws the weights of those experts that are `Initializable`.
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return static_cast<int64_t>(experts.size()); }
  int64_t output_size() const override { return output_size_; }
  /// @throws ArgumentError naming the expert whose output is not [N, output_size].
  ExpertOutput forward_all(const torch::Tensor& tokens) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  void take_experts(ExpertEdit& edit) override;
  std::vector<std::vector<torch::Tensor>> separate_parameters() const override;

  std::vector<torch::nn::AnyModule> experts;

 private:
  torch::Tensor run(size_t expert, const torch::Tensor& tokens);
  int64_t output_size_;
};
TORCH_MODULE(ExpertList);

}  // namespace moekit::nn
