#pragma once

#include <torch/nn/modules/container/any.h>
#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/router.h"
#include "moekit/nn/routers/trunk.h"

namespace moekit::nn {

/// Options of `AttentiveRouter`. Example: `AttentiveRouterOptions(32, 5)`.
struct AttentiveRouterOptions {
  AttentiveRouterOptions() = default;
  AttentiveRouterOptions(int64_t hidden_size, int64_t num_experts)
      : hidden_size_(hidden_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size) = 0;  ///< h of the trunk's output and of the experts' features
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E; no weight depends on it
  TORCH_ARG(int64_t, top_k) = 0;        ///< K; 0: all experts. Saves no work: see the class.
  TORCH_ARG(CombineWeights, combine_weights) = CombineWeights::kRenormalized;
  /// Only losses on routing train it: wanted where the weights carry no gradient, as for top_k = 1
  /// with renormalized weights.
  TORCH_ARG(bool, aux_only) = false;

 public:
  /// Names what a recipe chooses; sizes come from the layer.
  template <typename Field>
  void visit(Field&& field) {
    field("top_k", top_k_, "experts a token is sent to; 0 for all", at_least(0));
    field("combine_weights", combine_weights_, "weights of the chosen experts");
    field("aux_only", aux_only_, "no task gradient: only losses on routing train the router");
  }
};

/// Scores expert i by scaled dot product between the trunk's hidden vector u (query) and the
/// expert's own hidden vector v_i (key): s_i = <u W_q, v_i W_k> / sqrt(h), then softmax over i.
/// Gradient flows through W_q, W_k, the trunk and, through the keys, into the experts.
/// All experts must run before it can score, so it never skips one.
/// Source: Krishnamurthy et al. 2023, arXiv:2302.14703 (attentive gate).
class AttentiveRouterImpl : public Cloneable<AttentiveRouterImpl, RouterImpl> {
 public:
  /// @param trunk  any module tensor -> [N, hidden_size]; the router keeps its own deep copy.
  explicit AttentiveRouterImpl(AttentiveRouterOptions options, torch::nn::AnyModule trunk = {});
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  /// @throws ArgumentError unless context.expert_features is [E, N, hidden_size].
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  void take_experts(ExpertEdit& edit) override;
  int64_t num_experts() const override { return options.num_experts(); }
  RouterTraits traits() const override;
  bool needs_expert_features() const override { return true; }
  int64_t feature_size() const override { return options.hidden_size(); }
  void pretty_print(std::ostream& stream) const override;

  AttentiveRouterOptions options;
  torch::nn::AnyModule trunk;  ///< may be empty
  torch::Tensor query_weight;  ///< W_q, [h, h]
  torch::Tensor key_weight;    ///< W_k, [h, h], shared by all experts
};
TORCH_MODULE(AttentiveRouter);

/// An attentive router as a recipe says it.
struct AttentiveRouterConfig {
  TrunkOptions front;
  AttentiveRouterOptions router;

  template <typename Field>
  void visit(Field&& field) {
    front.visit(field);
    router.visit(field);
  }
};
/// Also refuses experts without features, or of another size than the trunk's.
void check_attentive_router(const AttentiveRouterConfig& config, const LayerSite& site,
                            const std::string& where);
std::shared_ptr<RouterImpl> make_attentive_router(const AttentiveRouterConfig& config,
                                                  const LayerSite& site);

}  // namespace moekit::nn
