#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <memory>

#include "moekit/core/field_rule.h"
#include "moekit/nn/moe_layer.h"

namespace moekit::nn {

struct MultiHeadOptions {
  TORCH_ARG(int64_t, token_heads) = 1;
  TORCH_ARG(bool, head_layer) = false;
  TORCH_ARG(bool, merge_layer) = false;

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("token_heads", token_heads_, "h: parts that a token is cut into, each routed by itself",
          at_least(1));
    field("head_layer", head_layer_, "a linear map of a token before it is cut");
    field("merge_layer", merge_layer_, "a linear map of what the parts' outputs make up");
  }
  /// Whether there is anything to do around the mixture.
  bool any() const { return token_heads_ > 1 || head_layer_ || merge_layer_; }
};

/// A mixture of parts of tokens: a linear map of the token, h parts of D/h values each of which is
/// routed by itself, their outputs side by side, another linear map. Parts are sub-tokens n h + i
/// of a mixture whose tokens have D/h values: routings, capacities and losses are of these. Source:
/// Wu et al. 2024, arXiv:2404.15045, section 3; sizes of equal cost: Huang et al. 2024,
/// arXiv:2411.16205, section 2.
class MultiHeadMoEImpl : public torch::nn::Cloneable<MultiHeadMoEImpl> {
 public:
  /// @param hidden_size  D @param moe  takes and gives D/h values
  /// @param shared_experts  run on every whole token, D values to D; may be null
  /// @throws ArgumentError when h does not divide D, or the mixture has another size.
  MultiHeadMoEImpl(int64_t hidden_size, MultiHeadOptions options, MoE moe,
                   std::shared_ptr<ExpertsImpl> shared_experts = nullptr);
  void reset() override;
  /// Of the two maps and the shared experts; the mixture's parts are drawn by their owner.
  void reset_parameters(const at::Generator& generator);
  /// @param tokens [N, D] or [B, T, D]; mask and ids of the context are [N] or [B, T]
  /// @return values in the tokens' shape; routing, tokens and plan are the sub-tokens'
  MoEOutput forward_with_routing(const torch::Tensor& tokens, const RouterContext& context = {});

  MultiHeadOptions options;
  MoE moe{nullptr};
  std::shared_ptr<ExpertsImpl> shared_experts;
  torch::nn::Linear head{nullptr};   ///< null without
  torch::nn::Linear merge{nullptr};  ///< null without

 private:
  int64_t hidden_size_;
};
TORCH_MODULE(MultiHeadMoE);

/// An ordinary mixture, whose cost a multi-head one shall have.
struct ReferenceMixture {
  int64_t hidden_size = 0;        ///< d
  int64_t intermediate_size = 0;  ///< d_moe
  int64_t num_experts = 0;        ///< E_0
  int64_t top_k = 1;              ///< k_0
  int64_t matrices = 3;           ///< m of an expert: 3 where it is gated, else 2
};
struct MultiHeadSizes {
  double intermediate_size;  ///< d_mh
  double num_experts;        ///< E
};
/// Sizes at which a multi-head mixture of k experts a sub-token, with both maps, has as many
/// operations and parameters as the reference:
///     d_mh = (k_0 d_moe - 2 d / m) / k        E = h (m d d_moe E_0 - 2 d^2) / (m d d_mh)
/// neither need be an integer. Source: arXiv:2411.16205, eq. 6-9, for m = 2; other m worked out
/// here.
/// @throws ArgumentError telling the formula where d_mh is not positive.
MultiHeadSizes equal_cost(const ReferenceMixture& reference, int64_t token_heads, int64_t top_k);

}  // namespace moekit::nn
