#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "moekit/nn/expert_edit.h"
#include "moekit/nn/initialization.h"
#include "moekit/nn/routing.h"

namespace moekit::nn {

/// What a router may need beyond the tokens. Fields a router does not use may stay undefined;
/// one that it needs and does not get is an `ArgumentError`.
struct RouterContext {
  at::Generator generator;        ///< draws noise; libtorch's default one when undefined
  bool training = false;          ///< noise is added in training only, unless
  bool always_noise = false;      ///< it is asked for outside of training too
  torch::Tensor expert_features;  ///< [E, N, h], the experts' hidden vectors
  torch::Tensor previous_logits;  ///< [N, E] of an earlier layer
  torch::Tensor task_id;          ///< [N] int64: task, domain or label, for routers told the truth
  torch::Tensor token_id;         ///< [N] int64, ids of a vocabulary
  /// [N] int64: which sequence of the layer's tokens [B, T, D] each is of, filled in by the layer;
  /// undefined for tokens [N, D].
  torch::Tensor sequence;
  /// [N] bool: tokens that are there. The others are not routed, take no capacity, count in no loss
  /// and no metric, and give zeros. The layer takes them out before a router sees them. Undefined:
  /// all are there.
  torch::Tensor mask;

  /// The same for some of the tokens, without a mask. @param rows [M] int64
  RouterContext select(const torch::Tensor& rows) const;
};

/// What a router counted in the forward passes of a training step, all parts of it.
struct StepLoad {
  int64_t assignments = 0;  ///< pairs of a token and an expert that were chosen
  int64_t pairs = 0;        ///< that there are: tokens times experts
};

/// What losses and models want to know of a router before it has routed anything.
struct RouterTraits {
  int64_t top_k = 0;            ///< experts of every token; 0: all, or tokens differ
  bool learns = true;           ///< its decisions follow a gradient
  bool adds_noise = false;      ///< to its logits, in training
  bool gaussian_noise = false;  ///< of a size it learns, see `Routing::noise_std`
  /// Why the weights of its assignments carry it no gradient; empty where they do.
  std::string no_weight_gradient;
  CombineWeights combine_weights = CombineWeights::kRenormalized;  ///< of its assignments
  /// What a token gets does not depend on those behind it: what models of the next token need.
  bool causal = true;
  int64_t token_multiple = 1;  ///< in training it takes numbers of tokens that this divides alone
  bool aux_only = false;       ///< its owner says that losses on routing alone shall train it
  bool penalizes = false;      ///< its routings bring a loss of their own, see `Routing::penalty`
};

/// Sends each token to experts. A new router is a class of its own that implements this.
class RouterImpl : public torch::nn::Module, public Initializable {
 public:
  /// @param tokens  [N, D], or whatever the router's trunk takes ([N, C, H, W])
  virtual Routing forward(const torch::Tensor& tokens, const RouterContext& context) = 0;
  virtual int64_t num_experts() const = 0;
  /// Whether `RouterContext::expert_features` must be given: such a router cannot skip experts.
  virtual bool needs_expert_features() const { return false; }
  /// Size h that the experts' features must have; 0 for any.
  virtual int64_t feature_size() const { return 0; }
  /// [E, D] where logit e is a product of the (summed) input with row e, so that the rows can be
  /// compared with known directions of the data; undefined for other routers.
  virtual torch::Tensor directions() const { return {}; }
  virtual RouterTraits traits() const { return {}; }
  /// Parameters [E, ...] whose row e says how expert e is scored, and no other expert; none where
  /// there are no such.
  virtual std::vector<torch::Tensor> expert_rows() const { return {}; }
  /// Of the running step; nothing for routers that do not count.
  virtual StepLoad step_load() const { return {}; }
  /// A training step is over, its weights have moved: a router that steers its load by other means
  /// than a fixed loss acts on what it counted, and begins to count anew.
  /// @param model  what all routers of the model counted together
  virtual void end_step(const StepLoad& /*model*/) {}
  /// Makes the experts of `edit.index` its experts, options included, and notes what was done.
  /// Nothing changes before edit.commit(). Call nn::take_experts() on the layer instead, which
  /// edits router and experts together.
  virtual void take_experts(ExpertEdit& edit) = 0;
};

/// Refuses a router that learns and that no loss on a layer's outputs can train, unless its option
/// aux_only says that losses on routing alone shall; and refuses that option where it is untrue.
/// @param why    the reason why no gradient comes back, empty where one does
/// @param where  stands before the message @throws ArgumentError
void check_trainable(const RouterTraits& traits, const std::string& why, const std::string& where);

/// @param where  stands before the message
/// @throws ArgumentError unless top_k is 0 (all) or 1..num_experts.
void check_top_k(int64_t top_k, int64_t num_experts, const std::string& where);

}  // namespace moekit::nn
