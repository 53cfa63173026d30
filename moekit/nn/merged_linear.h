#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <memory>

#include "moekit/core/field_rule.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/gate_units.h"
#include "moekit/nn/merge_cost.h"
#include "moekit/nn/routed_layer.h"
#include "moekit/nn/token_block.h"

namespace moekit::nn {

struct MergedLinearOptions {
  TORCH_ARG(GateUnit, unit) = GateUnit::kSequence;
  TORCH_ARG(LinearPath, path) = LinearPath::kAuto;
  /// Masked tokens are in the mean that a gate is made of, as in the released code.
  TORCH_ARG(bool, mean_over_padding) = false;
  TORCH_ARG(int64_t, token_reduction) = 0;  ///< of the TokenBlock before the layer; 0: none
  /// Vectors [num_tasks, R] that learn, for unit kTask with task ids; 0: the vector is handed in.
  TORCH_ARG(int64_t, num_tasks) = 0;
  TORCH_ARG(int64_t, task_size) = 0;  ///< R
  /// Merged weights that path kAuto takes at most; above, experts are routed. Training keeps them
  /// until the backward pass.
  TORCH_ARG(double, most_merged_bytes) = 1024.0 * 1024 * 1024;
};

/// One linear map for each gate.
struct MergedWeights {
  torch::Tensor weight;  ///< [G, O, D], in the experts' type
  torch::Tensor bias;    ///< [G, O], undefined without
};

/// What_g = sum_i g_i W_i and sum_i g_i b_i for each row of a routing, summed in float32 at least.
/// Gradient flows to the experts' parameters, g_i times that of the merged weights (exact zeros for
/// experts that no row chose), and to the routing's weights, the Frobenius product of that with
/// W_i. With kProduct, experts that are not chosen are multiplied by zero: they have to be finite.
/// Source: He et al. 2023, arXiv:2310.09832, section 3.
/// @param routing  G rows, of K experts each
/// @throws ArgumentError for a router whose rows have no fixed number of experts
MergedWeights merge_linear(const LinearExpertsImpl& experts, const Routing& routing, MergeBy by);

struct MergedLinearOutput {
  torch::Tensor values;  ///< [B, T, O] or [T, O], in the experts' type; zeros for masked tokens
  Routing routing;       ///< a row for each gate: sequences, tasks or positions, not tokens
  torch::Tensor units;   ///< [G, R], what was routed: a row for each of the routing's
  LinearPath path = LinearPath::kRouted;  ///< which was taken
  bool cached = false;                    ///< the merged weights were there already
};

/// A linear layer of experts, y = sum_i g_i (W_i x + b_i), where groups of tokens (`GateUnit`)
/// share a gate, on two paths that give the same numbers to rounding, gradients included: routed,
/// each chosen expert on its tokens, or merged, one map for each gate in one batched product. This
/// holds for linear experts alone: of a network with a hidden layer each linear layer is one such
/// layer with a router of its own.
///
/// In evaluation mode without gradients, with one gate (one sequence, or one task), the merged
/// weights are kept and used again as long as the gate and the experts' parameters are the same:
/// then the layer costs what one expert does. A parameter counts as changed by libtorch's version
/// counter, which sees every operation in place (optimizers, loading) but not writes through
/// `.data()` or a raw pointer: call forget_merged() after those.
///
/// Source: He et al. 2023, arXiv:2310.09832 (MEO). Departures: masked tokens are in no mean unless
/// mean_over_padding() says so; kPrefix has no leak from later tokens; all that enters a product is
/// initialised; noisy top-k gates are `LinearRouter` with noise = "gaussian", init = "zero" and
/// without a bias, whose noise has the size softplus(u W_noise) where the released code adds 0.01.
class MergedLinearImpl : public torch::nn::Cloneable<MergedLinearImpl>, public RoutedModule {
 public:
  /// Holds the modules it is given; clone() copies them deeply.
  /// @throws ArgumentError when router and experts do not fit together, for a router that needs the
  /// experts' features, or that the layer's output cannot train unless its option aux_only says so,
  /// and for options without effect: num_tasks, task_size without unit kTask, mean_over_padding
  /// with units kTask and kToken.
  MergedLinearImpl(std::shared_ptr<RouterImpl> router, std::shared_ptr<LinearExpertsImpl> experts,
                   MergedLinearOptions options = {});
  void reset() override;
  /// Draws router, experts, token block and task vectors anew, in this order.
  void reset_parameters(const at::Generator& generator);
  /// For `torch::nn::Sequential`: the values alone.
  torch::Tensor forward(const torch::Tensor& tokens);
  /// @param tokens [B, T, D], or [T, D] for one sequence; mask and task ids of the context are
  ///               [B, T] or [T]
  /// @param task   [R], with unit kTask and num_tasks 0: what the gate of all tokens is made of
  MergedLinearOutput forward_with_routing(const torch::Tensor& tokens,
                                          const RouterContext& context = {},
                                          const torch::Tensor& task = {});
  /// Drops merged weights that are kept for the next call.
  void forget_merged();
  RoutedLayer routed_parts() const override { return {"", router, experts, nullptr}; }

  MergedLinearOptions options;
  std::shared_ptr<RouterImpl> router;
  std::shared_ptr<LinearExpertsImpl> experts;
  TokenBlock token_block{nullptr};  ///< may be absent
  torch::Tensor task_vectors;       ///< [num_tasks, R], undefined without

 private:
  struct Kept;
  void register_own();
  GateUnits make_units(const torch::Tensor& tokens, const TokenRows& rows,
                       const torch::Tensor& task) const;
  torch::Tensor run_block(const torch::Tensor& tokens, const RouterContext& context);
  torch::Tensor run_routed(const torch::Tensor& inputs, const GateUnits& units,
                           const Routing& routing);
  torch::Tensor run_merged(const torch::Tensor& inputs, const GateUnits& units,
                           const MergedWeights& merged) const;
  /// Whether merged weights of one gate are to be kept, or may be there already.
  bool may_keep(const GateUnits& units) const;
  std::shared_ptr<Kept> kept_;
};
TORCH_MODULE(MergedLinear);

}  // namespace moekit::nn
