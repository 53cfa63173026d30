#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "moekit/kernels/common/execution.h"
#include "moekit/kernels/common/routing_plan.h"
#include "moekit/kernels/ffn/packed_experts.h"

/// The sparse feed-forward layer on plain memory: route N tokens to K of E experts, run gated or
/// plain experts, sum their weighted outputs. All arrays are row-major float; they may not overlap.
namespace moekit::kernels {

/// A bank and who goes to it; a call may have several, whose outputs add up: routed experts and
/// shared ones, of another size if need be.
struct FfnBank {
  const PackedExperts* experts;
  const RoutingPlan* plan;
};

/// y[n] = sum over banks and choices k of weight[n,k] * FFN_{expert[n,k]}(x[n]); a token without
/// experts gets zeros. The sums run in the same order for any number of threads.
/// Integer formats quantize each token to int8 (scale: its largest |value| / 127) before both
/// products; bf16 rounds tokens and hidden values to bfloat16. Sums are in float, or exact int32.
/// @param tokens  [N, D]  @param output  [N, O]
/// @throws ArgumentError when sizes of banks and plans do not fit, a token is not finite, or this
///         machine lacks one of `execution.paths`.
void expert_ffn_forward(const std::vector<FfnBank>& banks, const float* tokens, float* output,
                        const Execution& execution);

/// Stacked parameters of a bank as they are trained, [E, F, D], [E, F, D], [E, O, F] and biases
/// [E, F], [E, F], [E, O]: the pointers of `ExpertMatrices` to the first expert's.
struct TrainBank {
  FfnShape shape;
  ExpertMatrices parameters;
  const RoutingPlan* plan;
  ComputeType compute = ComputeType::kF32;
};

/// What a forward pass keeps for its backward pass: gate and up values before the activation,
/// 4 * A * F * (gated ? 2 : 1) bytes; or nothing, and they are computed again.
class FfnTape {
 public:
  explicit FfnTape(bool keep_activations = true) : keep_(keep_activations) {}
  /// Keeps activations in memory that was used before.
  explicit FfnTape(Slab memory) : keep_(true), memory_(std::move(memory)) {}
  bool keeps_activations() const { return keep_; }
  std::size_t bytes() const { return memory_.size(); }
  Slab& memory() { return memory_; }

 private:
  bool keep_;
  Slab memory_;
};

/// What a tape that keeps activations holds after such a forward pass.
std::size_t tape_bytes(const FfnShape& shape, std::int64_t num_rows);

/// As expert_ffn_forward() on unpacked parameters. @param tape  null when no backward will follow.
void expert_ffn_train_forward(const TrainBank& bank, const float* tokens, float* output,
                              FfnTape* tape, const Execution& execution);

/// Where gradients go. Null pointers are not computed (weights: all or none).
struct FfnGradients {
  float* tokens = nullptr;          ///< [N, D], overwritten
  float* combine_weight = nullptr;  ///< [A], of the assignments as they were listed, overwritten
  /// Stacked as the parameters. Overwritten for experts with tokens; the others' are not touched.
  MutableExpertMatrices parameters{};
};

/// Gradients of sum(grad_output * output). Sums run in a fixed order for any number of threads.
/// @param grad_output  [N, O]
/// @param tape  of the forward pass with the same bank and tokens
void expert_ffn_backward(const TrainBank& bank, const float* tokens, const float* grad_output,
                         FfnTape& tape, const FfnGradients& gradients, const Execution& execution);

}  // namespace moekit::kernels
