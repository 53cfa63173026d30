#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/router.h"

namespace moekit::nn {

/// Options of `RoundRobinRouter`.
struct RoundRobinRouterOptions {
  RoundRobinRouterOptions() = default;
  explicit RoundRobinRouterOptions(int64_t num_experts) : num_experts_(num_experts) {}
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E
  TORCH_ARG(int64_t, stride) = 1;       ///< token n goes to expert n * stride mod E

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("stride", stride_, "token n goes to expert n * stride mod E");
  }
};

/// Deals tokens out like cards: the fairest router, and the most ignorant. Has no weights.
class RoundRobinRouterImpl : public Cloneable<RoundRobinRouterImpl, RouterImpl> {
 public:
  explicit RoundRobinRouterImpl(RoundRobinRouterOptions options);
  void reset() override {}
  void reset_parameters(const at::Generator&) override {}
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  int64_t num_experts() const override { return options.num_experts(); }
  RouterTraits traits() const override;
  void take_experts(ExpertEdit& edit) override;

  RoundRobinRouterOptions options;
};
TORCH_MODULE(RoundRobinRouter);

void check_round_robin_router(const RoundRobinRouterOptions& options, const LayerSite& site,
                              const std::string& where);
std::shared_ptr<RouterImpl> make_round_robin_router(const RoundRobinRouterOptions& options,
                                                    const LayerSite& site);

}  // namespace moekit::nn
