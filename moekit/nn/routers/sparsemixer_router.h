#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/routers/projection_router.h"

namespace moekit::nn {

/// Options of `SparsemixerRouter`. Example: `SparsemixerRouterOptions(64, 16).jitter(0.01)`.
struct SparsemixerRouterOptions {
  SparsemixerRouterOptions(int64_t hidden_size, int64_t num_experts)
      : hidden_size_(hidden_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size);   ///< D
  TORCH_ARG(int64_t, num_experts);   ///< E, 2 at least
  TORCH_ARG(double, jitter) = 0.01;  ///< eps, at least 0
};

/// Two experts a token, the largest logits z. The weight of each is its softmax over the logits
/// that are near the largest m of those left: of expert i not where (m - z_i) / max(|z_i|, m) is
/// above 2 eps; for the second the first is left out. The weights do not sum to 1: near 2 where
/// nothing is close. What the published networks compute when they are used; the estimator of
/// gradients that they were trained with is not here.
/// Source: Liu et al. 2023, arXiv:2310.00811, as released with Phi-3.5-MoE.
class SparsemixerRouterImpl : public Cloneable<SparsemixerRouterImpl, ProjectionRouterImpl> {
 public:
  /// @throws ArgumentError for fewer than two experts or a negative jitter
  explicit SparsemixerRouterImpl(SparsemixerRouterOptions options);
  void reset() override;
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  void take_experts(ExpertEdit& edit) override;
  RouterTraits traits() const override;

  SparsemixerRouterOptions options;
};
TORCH_MODULE(SparsemixerRouter);

}  // namespace moekit::nn
