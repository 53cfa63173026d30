#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <memory>

#include "moekit/nn/routed_layer.h"

namespace moekit::nn {

/// How the classical mixture joins its experts and what it is trained by.
enum class MixtureForm {
  kExpectation,  ///< o = sum_i p_i o_i; loss -log o_y
  kStochastic,   ///< one expert drawn (training) or the argmax (test); loss of Jacobs et al.
  kPreSoftmax,   ///< o = softmax(sum_i p_i z_i) of the experts' logits z_i; loss -log o_y
  kTopK,         ///< the router's top_k experts; loss -log o_y
};

struct MixtureOptions {
  TORCH_ARG(MixtureForm, form) = MixtureForm::kExpectation;
};

/// Masked inputs have zeros in all but `routing`, which has no rows of them.
struct MixtureOutput {
  torch::Tensor log_probs;         ///< [N, C], log of the mixture's class probabilities, in the
                                   ///< experts' type; the others are float32 at least
  torch::Tensor expert_log_probs;  ///< [E, N, C], log softmax of each expert's outputs; undefined
                                   ///< when only the chosen experts were run
  torch::Tensor log_gate;          ///< [N, E], log softmax of the router's logits
  torch::Tensor expert_features;   ///< [E, N, h], undefined where the experts have none
  Routing routing;
  torch::Tensor inputs;  ///< [N, ...], what was routed: a row for each of the routing's
};

/// The classical dense mixture: every expert is a whole classifier and is run on every sample;
/// the router weights their class probabilities. In the top-k form outside training, only the
/// chosen experts are run, unless the router needs the features of all. Every logarithm of a sum of
/// products is taken by log-sum-exp of log p_i + log o_i, where the paper's code adds an epsilon
/// inside the log. Source: Jacobs et al. 1991 (stochastic form and loss, E_c); Krishnamurthy et al.
/// 2023, arXiv:2302.14703 (the other forms). For top_k = 1 we depart from that code, which takes a
/// second softmax: here o = p o_i + (1 - p) / C for the chosen expert i, a distribution in which
/// the router's probability p keeps its gradient. Inputs, router and experts may each be float32,
/// float64 or bfloat16; probabilities and losses are computed in float32 at least.
class MixtureImpl : public torch::nn::Cloneable<MixtureImpl>, public RoutedModule {
 public:
  /// The mixture holds the modules it is given; clone() copies them deeply.
  /// @throws ArgumentError when router and experts disagree on E or on the feature size, or there
  ///         is one expert and a router that has nothing to learn from that, unless its option
  ///         aux_only says so.
  MixtureImpl(std::shared_ptr<RouterImpl> router, std::shared_ptr<ExpertsImpl> experts,
              MixtureOptions options = {});
  void reset() override;
  /// @param inputs  what router trunk and experts take, [N, ...]. Features are added to `context`.
  MixtureOutput forward(const torch::Tensor& inputs, const RouterContext& context = {});
  /// Mean loss of the form over the inputs that are not masked, a scalar.
  /// @param labels [N] int64, 0..C-1
  torch::Tensor loss(const MixtureOutput& output, const torch::Tensor& labels) const;
  /// Whether a forward pass runs the chosen experts alone.
  bool runs_sparsely() const;
  RoutedLayer routed_parts() const override { return {"", router, experts, nullptr}; }
  torch::Tensor outputs_of(const torch::Tensor& samples, const RouterContext& context) override {
    return forward(samples, context).log_probs.exp();
  }

  MixtureOptions options;
  std::shared_ptr<RouterImpl> router;
  std::shared_ptr<ExpertsImpl> experts;

 private:
  MixtureOutput forward_rows(const torch::Tensor& inputs, RouterContext context);
  MixtureOutput forward_sparse(const torch::Tensor& inputs, const RouterContext& context);
};
TORCH_MODULE(Mixture);

/// Jacobs' competitive loss -log sum_i p_i exp(-l_i / 2) with l_i = -log o_{i,y}, mean over N.
/// @param log_gate [N, E] @param expert_log_probs [E, N, C] @param labels [N]
torch::Tensor jacobs_loss(const torch::Tensor& log_gate, const torch::Tensor& expert_log_probs,
                          const torch::Tensor& labels);

/// The historical errors for a target vector d, mean over N. All take gate [N, E] (summing to 1),
/// outputs [E, N, O] and target [N, O].
/// Source: Jacobs et al. 1991, the errors before equation 1, and equation 1.2 and 1.3 in order.
torch::Tensor cooperative_error(const torch::Tensor& gate, const torch::Tensor& outputs,
                                const torch::Tensor& target);  ///< |d - sum_i p_i o_i|^2
torch::Tensor localized_error(const torch::Tensor& gate, const torch::Tensor& outputs,
                              const torch::Tensor& target);  ///< sum_i p_i |d - o_i|^2
torch::Tensor competitive_error(const torch::Tensor& gate, const torch::Tensor& outputs,
                                const torch::Tensor& target);
///< -log sum_i p_i exp(-|d - o_i|^2 / 2)

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::MixtureForm> {
  static constexpr std::array<std::pair<nn::MixtureForm, std::string_view>, 4> kTable{{
      {nn::MixtureForm::kExpectation, "expectation"},
      {nn::MixtureForm::kStochastic, "stochastic"},
      {nn::MixtureForm::kPreSoftmax, "pre_softmax"},
      {nn::MixtureForm::kTopK, "top_k"},
  }};
};
