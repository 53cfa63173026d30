#pragma once

#include <torch/nn/module.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/nn/expert_edit.h"
#include "moekit/nn/hidden_units.h"
#include "moekit/nn/initialization.h"
#include "moekit/nn/routing.h"
#include "moekit/nn/runtime.h"

namespace moekit::nn {

struct MlpExpertsOptions;
struct FfnParameters;

/// What all experts give for all tokens.
struct ExpertOutput {
  torch::Tensor values;    ///< [E, N, O]
  torch::Tensor features;  ///< [E, N, h], the last hidden layer before its activation;
                           ///< undefined for experts without a hidden layer
};

/// A bank of E experts. Dense and routed evaluation give the same numbers to rounding.
class ExpertsImpl : public torch::nn::Module, public Initializable {
 public:
  virtual int64_t num_experts() const = 0;
  virtual int64_t output_size() const = 0;
  /// How many of the experts compute; those behind them cost next to nothing.
  virtual int64_t num_computing() const { return num_experts(); }
  /// Dimensions of one token: 1 for vectors [D], 3 for images [C, H, W]; 0 where it may be any.
  /// Tokens with two more come as [B, T, ...] and are flattened by the layer.
  virtual int64_t token_dim() const { return 1; }
  /// Size h of the features; 0 when there are none.
  virtual int64_t feature_size() const { return 0; }
  /// All experts on all tokens, in a few batched calls. @param tokens [N, D] or [N, C, H, W]
  virtual ExpertOutput forward_all(const torch::Tensor& tokens) = 0;
  /// Only the chosen ones, out of the tokens of a layer [N, ...]; unless a bank can read tokens
  /// where they lie, they are gathered and go through forward_routed(). @return [R, O]
  virtual torch::Tensor forward_dispatched(const torch::Tensor& tokens, const RoutingPlan& plan) {
    return forward_routed(dispatch(tokens, plan), plan);
  }
  /// Only the chosen ones. @param rows [R, ...], grouped by expert as `plan` says.
  /// An expert without rows costs nothing and gets a gradient of exact zeros.
  /// @return [R, O]
  virtual torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) = 0;
  /// Dispatch, experts and combine in one call that neither copies tokens nor keeps the experts'
  /// rows, where why_not_fused() is empty. @param tokens [N, D] @param weight [A]
  /// @return [N, O]; gradient flows to tokens, weight and parameters.
  virtual torch::Tensor forward_fused(const torch::Tensor& /*tokens*/, const RoutingPlan& /*plan*/,
                                      const torch::Tensor& /*weight*/,
                                      const std::shared_ptr<Runtime>& /*runtime*/) {
    throw ArgumentError("forward_fused: " + why_not_fused({}));
  }
  /// Why this bank cannot do that for such tokens; empty where it can.
  virtual std::string why_not_fused(const torch::Tensor& /*tokens*/) const {
    return "this kind of experts has no fused kernel";
  }
  /// [E, J, d] where experts take products of inputs with J filters first; undefined for others.
  virtual torch::Tensor directions() const { return {}; }
  /// Says in `edit` what makes the experts of `edit.index` its experts, options included; nothing
  /// changes before edit.commit(). Call nn::take_experts() on the layer instead, which edits router
  /// and experts together.
  virtual void take_experts(ExpertEdit& edit) = 0;
  /// [E] lists, where experts are modules of their own; empty for banks whose parameters have one
  /// row an expert.
  virtual std::vector<std::vector<torch::Tensor>> separate_parameters() const { return {}; }

  /// The hidden layers of an expert, from its input on, for aligning one expert with another; empty
  /// for experts that have none, nothing where the bank cannot tell.
  virtual std::optional<std::vector<HiddenUnits>> hidden_units() const { return std::nullopt; }

  /// Parameters that all experts have in common; empty where each has its own.
  virtual std::vector<torch::Tensor> shared_parameters() const { return {}; }

  /// Sizes, activation and so on of feed-forward experts, whatever their matrices are made of; null
  /// for other kinds.
  virtual const MlpExpertsOptions* network_options() const { return nullptr; }
  /// Takes the weights of E feed-forward networks of those sizes, as nearly as the kind can hold
  /// them. @throws ArgumentError for networks that it cannot, and kinds that take none
  virtual void set_networks(const FfnParameters& /*networks*/) {
    throw ArgumentError("this kind of experts takes no feed-forward networks");
  }

  /// What an expert is made of that is a product of two matrices, as adapters of low rank are;
  /// nothing for all others.
  virtual std::optional<MatrixPair> matrix_pair() const { return std::nullopt; }

  /// Experts that do not learn, in order. Call nn::freeze_experts() instead of setting them.
  const std::vector<int64_t>& frozen_experts() const { return frozen_; }
  void set_frozen_experts(std::vector<int64_t> experts) { frozen_ = std::move(experts); }

 private:
  std::vector<int64_t> frozen_;
};

/// Each row through its expert, on the fused kernel where the bank has one.
/// @param rows [R, D] @param expert [R] int64 @return [R, O]
torch::Tensor forward_each(ExpertsImpl& experts, const torch::Tensor& rows,
                           const torch::Tensor& expert);

/// Whether it is one of these very tensors.
bool is_one_of(const torch::Tensor& tensor, const std::vector<torch::Tensor>& list);

/// A tensor of one expert by its name in the bank: a view of its row of a stacked parameter or
/// buffer, or a parameter or buffer of the expert's own module.
using ExpertTensors = std::vector<std::pair<std::string, torch::Tensor>>;

/// All tensors of one expert but those that all have in common, detached: they share memory with
/// the bank and carry no gradient.
/// @throws ArgumentError for an expert out of range
ExpertTensors expert_tensors(const ExpertsImpl& experts, int64_t expert);

}  // namespace moekit::nn
