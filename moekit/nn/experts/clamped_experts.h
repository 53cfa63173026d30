#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts.h"

namespace moekit::nn {

/// Options of `ClampedExperts`. Example: `ClampedExpertsOptions(64, 256, 8).limit(7)`.
struct ClampedExpertsOptions {
  ClampedExpertsOptions(int64_t hidden_size, int64_t intermediate_size, int64_t num_experts)
      : hidden_size_(hidden_size),
        intermediate_size_(intermediate_size),
        num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size);        ///< D
  TORCH_ARG(int64_t, intermediate_size);  ///< F
  TORCH_ARG(int64_t, num_experts);        ///< E
  TORCH_ARG(double, limit) = 7.0;         ///< of gate (above) and up (both ways), above 0
};

/// Gated experts with biases whose gate and up values are kept within a limit:
/// down (u + 1) g sigmoid(1.702 g) with g = min(gate x, limit), u = clamp(up x, -limit, limit). On
/// libtorch's operations. Source: OpenAI 2025, arXiv:2508.10925, released code.
class ClampedExpertsImpl : public Cloneable<ClampedExpertsImpl, ExpertsImpl> {
 public:
  /// @throws ArgumentError unless all sizes are at least 1 and limit is above 0
  explicit ClampedExpertsImpl(ClampedExpertsOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return up_proj.size(0); }
  int64_t output_size() const override { return options.hidden_size(); }
  ExpertOutput forward_all(const torch::Tensor& tokens) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  void take_experts(ExpertEdit& edit) override;

  ClampedExpertsOptions options;
  torch::Tensor gate_proj, up_proj;  ///< [E, F, D]
  torch::Tensor down_proj;           ///< [E, D, F]
  torch::Tensor gate_bias, up_bias;  ///< [E, F]
  torch::Tensor down_bias;           ///< [E, D]

 private:
  torch::Tensor hidden(const torch::Tensor& gate, const torch::Tensor& up) const;
};
TORCH_MODULE(ClampedExperts);

}  // namespace moekit::nn
