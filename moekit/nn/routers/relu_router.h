#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/routers/projection_router.h"

namespace moekit::nn {

struct ReluRouterOptions {
  ReluRouterOptions() = default;
  ReluRouterOptions(int64_t hidden_size, int64_t num_experts)
      : hidden_size_(hidden_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size) = 0;  ///< D
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E
  TORCH_ARG(double, experts_per_token) = 2;
  TORCH_ARG(double, first_coefficient) = 1e-8;
  TORCH_ARG(double, multiplier) = 1.2;

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("experts_per_token", experts_per_token_, "on average, that the penalty steers to",
          above(0));
    field("first_coefficient", first_coefficient_, "of the penalty, before the first step",
          above(0));
    field("multiplier", multiplier_, "of the coefficient, up or down after every step",
          at_least(1));
  }
};

/// Weights are relu(tokens W'), and an expert takes the tokens that give it any: no softmax and no
/// choice of the largest, so that all of it has a gradient. A token has none to E experts.
///
/// Its penalty keeps them few: `coefficient * E * sum_e count_e / (k N) * mean_n weight_ne`, k
/// experts a token wanted. After each step the coefficient is multiplied where the model's tokens
/// had more than k on average, otherwise divided.
/// Source: Wang et al. 2024 (ReMoE), arXiv:2412.14711, eq. 6-10; `experts_per_token` may be no
/// integer here.
class ReluRouterImpl : public Cloneable<ReluRouterImpl, ProjectionRouterImpl> {
 public:
  /// @throws ArgumentError unless 0 < experts_per_token <= E
  explicit ReluRouterImpl(ReluRouterOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  StepLoad step_load() const override { return load_; }
  void end_step(const StepLoad& model) override;
  void take_experts(ExpertEdit& edit) override;
  RouterTraits traits() const override;

  ReluRouterOptions options;
  torch::Tensor coefficient;  ///< [1] float64, a buffer

 private:
  StepLoad load_;
};
TORCH_MODULE(ReluRouter);

void check_relu_router(const ReluRouterOptions& options, const LayerSite& site,
                       const std::string& where);
std::shared_ptr<RouterImpl> make_relu_router(const ReluRouterOptions& options,
                                             const LayerSite& site);

}  // namespace moekit::nn
