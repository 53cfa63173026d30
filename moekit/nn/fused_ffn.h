#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <utility>

#include "moekit/core/enum_names.h"
#include "moekit/kernels/ffn/weight_format.h"
#include "moekit/nn/activation.h"
#include "moekit/nn/routing.h"
#include "moekit/nn/runtime.h"

namespace moekit::nn {

/// Parameters of stacked feed-forward experts; gate and biases may be undefined.
struct FfnParameters {
  torch::Tensor gate;       ///< [E, F, D]
  torch::Tensor up;         ///< [E, F, D]
  torch::Tensor down;       ///< [E, O, F]
  torch::Tensor gate_bias;  ///< [E, F]
  torch::Tensor up_bias;    ///< [E, F]
  torch::Tensor down_bias;  ///< [E, O]
};

/// Such experts composed of libtorch's operations. @param rows [R, D], grouped by expert as
/// `offsets` says @return [R, O]; gradient flows to rows and parameters.
torch::Tensor composed_ffn(const torch::Tensor& rows, const FfnParameters& parameters,
                           Activation activation, const std::vector<int64_t>& offsets);

/// All experts on all tokens. @param tokens [N, D]
/// @return values [E, N, O] and what the activation takes of the up projection, [E, N, F]
std::pair<torch::Tensor, torch::Tensor> stacked_ffn(const torch::Tensor& tokens,
                                                    const FfnParameters& parameters,
                                                    Activation activation);

/// The sparse feed-forward layer as one autograd node on the kernels of kernels/ffn/expert_ffn.h,
/// on the threads of a `Runtime`. Only experts that received tokens are read; the others get a
/// gradient of zeros. Memory of gradients and activations is used again from step to step. Results
/// are the same for any number of threads. A backward pass that is to be differentiated again
/// (`create_graph`) runs on libtorch's operations instead, in float: slower, in more memory, and
/// with a bf16 `compute` without its rounding.
class FusedFfn {
 public:
  FusedFfn();
  /// A copy has memory of its own.
  FusedFfn(const FusedFfn& other);
  FusedFfn& operator=(const FusedFfn& other);
  FusedFfn(FusedFfn&&) noexcept = default;
  FusedFfn& operator=(FusedFfn&&) noexcept = default;
  ~FusedFfn() = default;

  /// Why the kernels cannot take such a call; empty where they can.
  static std::string why_not(const torch::Tensor& tokens, const FfnParameters& parameters,
                             Activation activation);

  /// @param tokens          [N, D] float32 on the CPU
  /// @param plan            of the assignments that `weight` is of; its own weights are not read
  /// @param weight          [A]
  /// @return [N, O]; zeros for a token without rows. Gradient flows to
  ///         tokens, weight and parameters.
  /// @throws ArgumentError when why_not() has a reason.
  torch::Tensor forward(const torch::Tensor& tokens, const FfnParameters& parameters,
                        const RoutingPlan& plan, const torch::Tensor& weight, Activation activation,
                        kernels::ComputeType compute, bool keep_activations,
                        std::shared_ptr<Runtime> runtime = Runtime::standard());

  /// Memory of earlier calls that none uses now and the next ones will.
  size_t kept_bytes() const;

  struct Memory;  ///< slabs that no tensor uses any more

 private:
  std::shared_ptr<Memory> memory_;
};

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::kernels::ComputeType> {
  static constexpr std::array<std::pair<kernels::ComputeType, std::string_view>, 2> kTable{{
      {kernels::ComputeType::kF32, "f32"},
      {kernels::ComputeType::kBf16, "bf16"},
  }};
};
