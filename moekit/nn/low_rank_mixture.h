#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <memory>

#include "moekit/core/field_rule.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/orthogonal.h"
#include "moekit/nn/routed_layer.h"
#include "moekit/nn/routers/linear_router.h"

namespace moekit::nn {

struct LowRankOptions {
  TORCH_ARG(int64_t, num_experts) = 0;  ///< n; 0: there is none
  TORCH_ARG(int64_t, rank) = 4;         ///< r
  TORCH_ARG(double, alpha) = 8.0;       ///< outputs are multiplied by alpha / r
  TORCH_ARG(int64_t, top_k) = 0;        ///< experts of a token, their weights sum to 1; 0: all
  TORCH_ARG(bool, orthogonal) = false;
  TORCH_ARG(OrthogonalSize, orthogonal_size) = OrthogonalSize::kKeep;

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("num_experts", num_experts_, "low-rank experts beside each linear map; 0: none",
          at_least(0));
    field("rank", rank_, "of an expert", at_least(1));
    field("alpha", alpha_, "experts are multiplied by alpha / rank", above(0));
    field("top_k", top_k_, "experts a token has, weights sum to 1; 0: all", at_least(0));
    field("orthogonal", orthogonal_, "outputs of a token's experts are made orthogonal (OMoE)");
    field("orthogonal_size", orthogonal_size_, "of such outputs");
  }
};

/// @throws ArgumentError naming the key below `where`
void check_low_rank(const LowRankOptions& options, const std::string& where);

/// What stands beside a frozen linear map: n experts E_i(x) = alpha / r B_i A_i x, B_i zeros at
/// first, weighted by a router's softmax and summed; of one expert there is no router. Their
/// outputs may be made orthogonal for each token first, in the order of the experts: those that the
/// token has. Sources: Hu et al. 2021, arXiv:2106.09685; Feng et al. 2025 (OMoE), arXiv:2501.10062.
class LowRankMixtureImpl : public torch::nn::Cloneable<LowRankMixtureImpl>, public RoutedModule {
 public:
  /// @throws ArgumentError as check_low_rank(), for sizes below 1, and for orthogonal outputs of
  /// more experts than they have dimensions
  LowRankMixtureImpl(int64_t in_features, int64_t out_features, LowRankOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& routers, const at::Generator& others);
  /// @param x [N, D] or [B, T, D] @param layers  gets the routing, where there is a router
  /// @return what is added to the map's output, in its shape
  torch::Tensor forward(const torch::Tensor& x, const RouterContext& context,
                        const std::string& name, std::vector<LayerRouting>& layers);
  /// Of each token its experts' outputs, [N, n, O], before and after they are made orthogonal.
  struct Outputs {
    torch::Tensor before;
    torch::Tensor after;
  };
  /// @param tokens [N, D] @param index [N, k], a token's experts, ascending; undefined: all
  Outputs expert_outputs(const torch::Tensor& tokens, const torch::Tensor& index);
  RoutedLayer routed_parts() const override { return {"", router_part(), experts.ptr(), nullptr}; }

  LowRankOptions options;
  LinearRouter router{nullptr};  ///< null of one expert
  MlpExperts experts{nullptr};

 private:
  /// Sum of the experts' outputs. @param weight [N, n] @return [N, O]
  torch::Tensor weighted_sum(const torch::Tensor& tokens, const torch::Tensor& weight);
  std::shared_ptr<RouterImpl> router_part() const {
    return router ? std::static_pointer_cast<RouterImpl>(router.ptr()) : nullptr;
  }
  void register_parts();
};
TORCH_MODULE(LowRankMixture);

}  // namespace moekit::nn
