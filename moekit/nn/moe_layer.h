#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <string>

#include "moekit/nn/capacity.h"
#include "moekit/nn/routed_layer.h"

namespace moekit::nn {

struct MoEOptions {
  /// How many assignments an expert takes, and which.
  TORCH_ARG(CapacityOptions, capacity);
  /// Use the experts' fused kernel where they have one; the numbers differ by the order of sums.
  TORCH_ARG(bool, fused) = true;
  /// Threads and memory of the fused kernel.
  TORCH_ARG(std::shared_ptr<Runtime>, runtime) = Runtime::standard();

 public:
  /// Of capacity() the one that most layers set.
  MoEOptions& capacity_factor(double factor) {
    capacity_.factor = factor;
    return *this;
  }
};

struct MoEOutput {
  /// [N, O], or [B, T, O] for tokens [B, T, D], in the experts' type; zeros for masked tokens
  torch::Tensor values;
  Routing routing;       ///< of the tokens that are not masked, flattened
  torch::Tensor tokens;  ///< [N, D], what was routed: a row for each of the routing's
  RoutingPlan plan;      ///< counts and drops; no offsets when all experts ran densely, unfused
};

/// The sparse layer: route, dispatch, run the chosen experts, combine; plus shared experts that
/// run on every token with weight 1. Only chosen experts are computed; a router that needs the
/// experts' features, or chooses all of them, makes every expert run. Tokens, router, experts and
/// shared experts may each be float32, float64 or bfloat16: experts take tokens in their own type,
/// the router computes and outputs are summed in the widest of theirs, float32 at least, and values
/// come in the experts' type. Gradients come in the type of what they are of.
class MoEImpl : public torch::nn::Cloneable<MoEImpl>, public RoutedModule {
 public:
  /// Holds the modules it is given; clone() copies them deeply. `shared_experts` may be null.
  /// @throws ArgumentError when router, experts and shared experts do not fit together, for options
  /// that check_capacity() refuses, and for a router that the layer's output cannot train, unless
  /// its option aux_only says so.
  MoEImpl(std::shared_ptr<RouterImpl> router, std::shared_ptr<ExpertsImpl> experts,
          MoEOptions options = {}, std::shared_ptr<ExpertsImpl> shared_experts = nullptr);
  void reset() override;
  /// For `torch::nn::Sequential`: the values alone.
  torch::Tensor forward(const torch::Tensor& tokens);
  /// @param tokens [N, D] or [B, T, D]; mask and task ids of the context are [N] or [B, T].
  MoEOutput forward_with_routing(const torch::Tensor& tokens, const RouterContext& context = {});
  /// Why such tokens do not go through the experts' fused kernel; empty where they do.
  std::string why_not_fused(const torch::Tensor& tokens) const;
  RoutedLayer routed_parts() const override { return {"", router, experts, shared_experts}; }
  torch::Tensor outputs_of(const torch::Tensor& samples, const RouterContext& context) override {
    return forward_with_routing(samples, context).values;
  }

  MoEOptions options;
  std::shared_ptr<RouterImpl> router;
  std::shared_ptr<ExpertsImpl> experts;
  std::shared_ptr<ExpertsImpl> shared_experts;

 private:
  /// As why_not_fused(), of tokens in the experts' type.
  std::string why_inputs_not_fused(const torch::Tensor& inputs) const;
  MoEOutput forward_rows(const torch::Tensor& tokens, RouterContext context);
};
TORCH_MODULE(MoE);

}  // namespace moekit::nn
