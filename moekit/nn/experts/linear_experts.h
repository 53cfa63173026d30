#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts.h"

namespace moekit::nn {

/// Options of `LinearExperts`. Example: `LinearExpertsOptions(64, 10, 4)`.
struct LinearExpertsOptions {
  LinearExpertsOptions(int64_t hidden_size, int64_t output_size, int64_t num_experts)
      : hidden_size_(hidden_size), output_size_(output_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size);  ///< D
  TORCH_ARG(int64_t, output_size);  ///< O
  TORCH_ARG(int64_t, num_experts);  ///< E
  TORCH_ARG(bool, bias) = true;

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("hidden_size", hidden_size_, "D");
    field("output_size", output_size_, "O");
    field("num_experts", num_experts_, "E");
    field("bias", bias_, "whether the experts have one");
  }
};

/// Experts that are one linear map each, stacked: weight[e] x + bias[e].
/// Source: Jacobs et al. 1991, Adaptive Mixtures of Local Experts (linear experts).
class LinearExpertsImpl : public Cloneable<LinearExpertsImpl, ExpertsImpl> {
 public:
  /// @throws ArgumentError unless all sizes are at least 1.
  explicit LinearExpertsImpl(LinearExpertsOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return weight.size(0); }
  int64_t output_size() const override { return options.output_size(); }
  ExpertOutput forward_all(const torch::Tensor& tokens) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const DispatchPlan& plan) override;
  void take_experts(ExpertEdit& edit) override;

  LinearExpertsOptions options;
  torch::Tensor weight;  ///< [E, O, D]
  torch::Tensor bias;    ///< [E, O], undefined without
};
TORCH_MODULE(LinearExperts);

}  // namespace moekit::nn
