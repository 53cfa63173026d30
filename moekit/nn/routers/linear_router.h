#pragma once

#include <torch/nn/modules/container/any.h>
#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/router.h"
#include "moekit/nn/routers/trunk.h"

namespace moekit::nn {

/// Noise on the logits while training.
enum class RouterNoise {
  kNone,
  kGaussian,  ///< learned: eps * softplus(tokens W_noise), eps ~ N(0, 1)
  kUniform,   ///< uniform in [0, noise_scale)
};
enum class RouterInit { kDefault, kZero };

/// Options of `LinearRouter`. Example: `LinearRouterOptions(512, 8).top_k(2)`.
struct LinearRouterOptions {
  LinearRouterOptions() = default;
  LinearRouterOptions(int64_t hidden_size, int64_t num_experts)
      : hidden_size_(hidden_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size) = 0;  ///< D after the trunk
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E
  TORCH_ARG(int64_t, top_k) = 0;        ///< K; 0: all experts
  TORCH_ARG(CombineWeights, combine_weights) = CombineWeights::kRenormalized;
  /// p > 0: a token's K weights are divided by their p-norm, (sum w^p)^(1/p); 0: they are not.
  /// Source: MegaBlocks, Gale et al. 2022, arXiv:2211.15841, released code.
  TORCH_ARG(double, weight_norm) = 0.0;
  /// Only losses on routing train it: wanted where the weights carry no gradient, as for top_k = 1
  /// with renormalized weights.
  TORCH_ARG(bool, aux_only) = false;
  TORCH_ARG(double, temperature) = 1.0;  ///< logits / temperature
  TORCH_ARG(RouterNoise, noise) = RouterNoise::kNone;
  TORCH_ARG(double, noise_scale) = 1.0;
  TORCH_ARG(RouterInit, init) = RouterInit::kDefault;
  TORCH_ARG(bool, bias) = true;
  /// Logits of the model's mixture before are mapped by a learned matrix and added. Source: Jin et
  /// al. 2024, arXiv:2410.07348, eq. 6.
  TORCH_ARG(bool, residual) = false;
  TORCH_ARG(int64_t, previous_experts) = 0;  ///< E of that mixture; 0: there is none before

 public:
  /// Names what a recipe chooses; sizes come from the layer.
  template <typename Field>
  void visit(Field&& field) {
    field("top_k", top_k_, "experts a token is sent to; 0 for all", at_least(0));
    field("combine_weights", combine_weights_, "weights of the chosen experts");
    field("weight_norm", weight_norm_,
          "p: a token's weights are divided by their p-norm; 0: they are not", at_least(0));
    field("aux_only", aux_only_, "no task gradient: only losses on routing train the router");
    field("temperature", temperature_, "logits are divided by it", above(0));
    field("noise", noise_, "noise on the logits in training");
    field("noise_scale", noise_scale_, "its size", at_least(0));
    field("init", init_, "initial weights");
    field("bias", bias_, "a learned offset per expert");
    field("residual", residual_, "the mixture before adds its logits, through a learned matrix");
  }
};

/// logits = trunk(tokens) W' (+ b), divided by the temperature, plus noise in training; softmax;
/// the K largest. With K = E this is the dense softmax gate.
/// Source: Shazeer et al. 2017, arXiv:1701.06538, eq. 2 (dense), 3-5 (noisy top-k). Noise none and
/// uniform depart from it; uniform noise is that of Chen et al. 2022, arXiv:2208.02813.
class LinearRouterImpl : public Cloneable<LinearRouterImpl, RouterImpl> {
 public:
  /// @param trunk  any module tensor -> [N, hidden_size]; the router keeps its own deep copy.
  /// @throws ArgumentError unless 0 <= top_k <= num_experts, temperature > 0, noise_scale > 0 where
  ///         there is noise, and weights are probs or clean_probs where they have a norm.
  explicit LinearRouterImpl(LinearRouterOptions options, torch::nn::AnyModule trunk = {});
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  void take_experts(ExpertEdit& edit) override;
  torch::Tensor directions() const override;
  std::vector<torch::Tensor> expert_rows() const override;
  int64_t num_experts() const override { return weight.size(0); }
  RouterTraits traits() const override;
  void pretty_print(std::ostream& stream) const override;

  LinearRouterOptions options;
  torch::nn::AnyModule trunk;     ///< may be empty
  torch::Tensor weight;           ///< [E, D]
  torch::Tensor bias;             ///< [E], undefined without
  torch::Tensor noise_weight;     ///< [E, D], zero at first; undefined unless noise is Gaussian
  torch::Tensor residual_weight;  ///< [E, E of the mixture before], undefined without
};
TORCH_MODULE(LinearRouter);

/// A linear router as a recipe says it.
struct LinearRouterConfig {
  TrunkOptions front;
  LinearRouterOptions router;

  template <typename Field>
  void visit(Field&& field) {
    front.visit(field);
    router.visit(field);
  }
};
void check_linear_router(const LinearRouterConfig& config, const LayerSite& site,
                         const std::string& where);
std::shared_ptr<RouterImpl> make_linear_router(const LinearRouterConfig& config,
                                               const LayerSite& site);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::RouterNoise> {
  static constexpr std::array<std::pair<nn::RouterNoise, std::string_view>, 3> kTable{{
      {nn::RouterNoise::kNone, "none"},
      {nn::RouterNoise::kGaussian, "gaussian"},
      {nn::RouterNoise::kUniform, "uniform"},
  }};
};
template <>
struct moekit::EnumNames<moekit::nn::RouterInit> {
  static constexpr std::array<std::pair<nn::RouterInit, std::string_view>, 2> kTable{{
      {nn::RouterInit::kDefault, "default"},
      {nn::RouterInit::kZero, "zero"},
  }};
};
