#pragma once

#include <torch/types.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/kernels/common/routing_plan.h"

/// Shapes everywhere: N tokens (or samples), D hidden_size, F intermediate_size, E num_experts,
/// K top_k, C classes or capacity (said which), A assignments of tokens to experts, R <= A rows of
/// them after dropping.
namespace moekit::nn {

using kernels::RoutingPlan;

/// How the K chosen experts are weighted.
enum class CombineWeights {
  kProbs,            ///< their share of the softmax over all E: the rest of the mass is lost
  kRenormalized,     ///< softmax over the K chosen logits alone: sums to 1
  kCleanProbs,       ///< as kProbs, of the logits without noise: noise decides who, not how much
  kLogits,           ///< the chosen logits themselves, noise included
  kStraightThrough,  ///< 1, with the gradient of p / stop_gradient(p), p as in kProbs
};

/// What a router decided for N tokens: a flat list of assignments, of which a token may have none,
/// one or many. Gradient flows through `logits`, `probs` and `weight`; indices carry none. Logits,
/// probabilities and weights are float32 or float64 whatever a layer's tokens and experts are.
struct Routing {
  torch::Tensor logits;  ///< [N, E], with noise where the router adds any
  torch::Tensor probs;   ///< [N, E], softmax of `logits`
  torch::Tensor token;   ///< [A] int64, 0..N-1
  torch::Tensor expert;  ///< [A] int64, 0..E-1
  torch::Tensor weight;  ///< [A], of the expert's output in the token's sum
  /// [N, K] int64 where every token chooses K experts: the list is then this matrix row by row.
  /// Undefined for other routers.
  torch::Tensor expert_index;
  bool takes_all = false;      ///< each token goes to experts 0..E-1 in this order
  torch::Tensor clean_logits;  ///< [N, E] before noise; undefined without noise
  torch::Tensor noise_std;     ///< [N, E] or [1]; undefined without Gaussian noise
  /// [N] int64: which token of the layer's input each row is; undefined where it is all of them in
  /// order. Masked tokens are in no row.
  torch::Tensor rows;
  /// [N] int64: which sequence of the layer's input [B, T, ...] each row is of; undefined for
  /// tokens [N, ...].
  torch::Tensor sequence;

  /// A loss that the router itself asks for in training, its coefficient included: of this routing,
  /// or of several joined. A scalar; empty for routers without.
  std::function<torch::Tensor(const Routing&)> penalty;

  int64_t num_tokens() const { return probs.size(0); }
  int64_t num_experts() const { return probs.size(1); }
  int64_t num_assignments() const { return expert.size(0); }
  /// K; 0 where tokens differ in how many experts they have.
  int64_t top_k() const { return expert_index.defined() ? expert_index.size(1) : 0; }
};

/// Softmax of the logits, then the K largest of each row, of equal ones the lowest index first.
/// @param logits  [N, E]
/// @param top_k   1..E, or 0 for all experts
/// @param clean_logits  [N, E] before noise was added; `logits` where undefined
/// @throws ArgumentError when top_k > E or logits are not a matrix.
Routing route(const torch::Tensor& logits, int64_t top_k = 0,
              CombineWeights weights = CombineWeights::kRenormalized,
              const torch::Tensor& clean_logits = {});

/// Softmax of the logits, and assignments as they are given: for routers whose tokens have no
/// fixed number of experts.
/// @param logits [N, E] @param token, expert [A] int64 @param weight [A]
/// @throws ArgumentError when sizes or dtypes do not fit.
Routing route_assignments(const torch::Tensor& logits, torch::Tensor token, torch::Tensor expert,
                          torch::Tensor weight);

/// Why such weights carry no gradient to the router, so that no loss on outputs can train it; empty
/// where they do. Renormalised over one expert, a weight is 1 whatever the router says.
std::string why_no_gradient(int64_t top_k, int64_t num_experts, CombineWeights weights);

/// The expert of every token's largest logit, of equal ones the lowest: its first choice. [N] int64
torch::Tensor top1_expert(const Routing& routing);

/// Sorts a routing's assignments by expert. Weights stay in the routing: those of the plan are 1.
/// @param capacity  most assignments an expert takes; 0: dropless
/// @param order     [A] int64, in which order they take them, see `capacity_order`; undefined: the
///                  list's first ones first
/// @throws ArgumentError naming the value when a token or an expert does not exist.
RoutingPlan make_plan(const Routing& routing, int64_t capacity = 0,
                      const torch::Tensor& order = {});
/// @param capacity  of each expert [E], or one for all; none: dropless
RoutingPlan make_plan(const Routing& routing, std::span<const int64_t> capacity,
                      const torch::Tensor& order);
/// The same of K experts a token. @param expert_index [N, K] int64
RoutingPlan make_plan(const torch::Tensor& expert_index, int64_t num_experts, int64_t capacity = 0);

/// The plan with the weights of its assignments, as kernels take it. @param weight [A]
/// @throws ArgumentError unless there is one an assignment
RoutingPlan weighted(const RoutingPlan& plan, const torch::Tensor& weight);

/// Token of each row of the plan, [R] int64.
torch::Tensor plan_tokens(const RoutingPlan& plan);
/// Index in the list of assignments of each row of the plan, [R] int64.
torch::Tensor plan_assignments(const RoutingPlan& plan);

/// ceil(factor * A / E) within rounding (1.1 * 50 gives 55), 1..A; 0 (no limit) for factor 0. With
/// K assignments a token A is N * K. Source: Lepikhin et al. 2020, arXiv:2006.16668, section 2.2,
/// with rounding up.
/// @throws ArgumentError for a factor that is negative, infinite or NaN.
int64_t expert_capacity(double capacity_factor, int64_t num_assignments, int64_t num_experts);

/// Rows of `tokens` in the plan's order, [R, ...].
torch::Tensor dispatch(const torch::Tensor& tokens, const RoutingPlan& plan);

/// Weighted sum of the experts' rows back into [N, O]; a token without rows gets zeros. Summed in
/// float32 at least, given in the rows' type.
/// Gradient flows to `expert_rows` [R, O] and `weight` [A].
torch::Tensor combine(const torch::Tensor& expert_rows, const RoutingPlan& plan,
                      const torch::Tensor& weight);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::CombineWeights> {
  static constexpr std::array<std::pair<nn::CombineWeights, std::string_view>, 5> kTable{{
      {nn::CombineWeights::kProbs, "probs"},
      {nn::CombineWeights::kRenormalized, "renormalized"},
      {nn::CombineWeights::kCleanProbs, "clean_probs"},
      {nn::CombineWeights::kLogits, "logits"},
      {nn::CombineWeights::kStraightThrough, "straight_through"},
  }};
};
