#pragma once

#include <torch/nn/pimpl.h>

#include <memory>

#include "moekit/kernels/ffn/packed_experts.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts.h"

namespace moekit::nn {

/// Weighted sums of packed experts' outputs, for inference. @param tokens [N, D] float32
/// @param weight [A] @return [N, O]
/// @throws ArgumentError where a gradient is wanted, or for tokens of another kind
torch::Tensor forward_packed(const kernels::PackedExperts& experts, const torch::Tensor& tokens,
                             const RoutingPlan& plan, const torch::Tensor& weight,
                             const std::shared_ptr<Runtime>& runtime);

/// Feed-forward experts that are nothing but packed weights, for inference: a bank takes the memory
/// of its format and has no parameters. Clones share the weights.
class PackedMlpExpertsImpl : public Cloneable<PackedMlpExpertsImpl, ExpertsImpl> {
 public:
  /// All weights zero. @throws ArgumentError as PackedExperts
  PackedMlpExpertsImpl(const kernels::FfnShape& shape, kernels::WeightFormat format);
  void reset() override {}
  void reset_parameters(const at::Generator&) override {}  // there are none

  /// @param gate [F, D], undefined without a gate @param up [F, D] @param down [O, F], float32
  /// @throws ArgumentError for other sizes, an expert that is not there, and as PackedExperts::pack
  void set_expert(int64_t expert, const torch::Tensor& gate, const torch::Tensor& up,
                  const torch::Tensor& down);

  int64_t num_experts() const override { return packed_->shape().num_experts; }
  int64_t output_size() const override { return packed_->shape().output_size; }
  ExpertOutput forward_all(const torch::Tensor& tokens) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  torch::Tensor forward_fused(const torch::Tensor& tokens, const RoutingPlan& plan,
                              const torch::Tensor& weight,
                              const std::shared_ptr<Runtime>& runtime) override;
  std::string why_not_fused(const torch::Tensor&) const override { return {}; }
  void take_experts(ExpertEdit& edit) override;
  const kernels::PackedExperts& packed() const { return *packed_; }

 private:
  std::shared_ptr<kernels::PackedExperts> packed_;
};
TORCH_MODULE(PackedMlpExperts);

}  // namespace moekit::nn
