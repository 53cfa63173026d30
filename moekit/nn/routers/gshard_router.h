#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/routers/projection_router.h"

namespace moekit::nn {

struct GshardRouterOptions {
  GshardRouterOptions() = default;
  GshardRouterOptions(int64_t hidden_size, int64_t num_experts)
      : hidden_size_(hidden_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size) = 0;  ///< D
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E >= 2
  TORCH_ARG(bool, random_second) = true;

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("random_second", random_second_,
          "in training the second expert is taken with probability 2 g2, its doubled weight");
  }
};

/// The two likeliest experts of a token, with weights g1 and g2, their shares of the softmax over
/// both. In training the second one is taken with probability min(1, 2 g2), where it has the less
/// to say the rarer; g1 stays as it is. Outside of training it is always taken.
///
/// Assignments are listed first choices before second ones, and so they take an expert's capacity.
/// Source: Lepikhin et al. 2020, arXiv:2006.16668, alg. 1.
class GshardRouterImpl : public Cloneable<GshardRouterImpl, ProjectionRouterImpl> {
 public:
  /// @throws ArgumentError with fewer than two experts
  explicit GshardRouterImpl(GshardRouterOptions options);
  void reset() override;
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  void take_experts(ExpertEdit& edit) override;
  RouterTraits traits() const override;

  GshardRouterOptions options;
};
TORCH_MODULE(GshardRouter);

void check_gshard_router(const GshardRouterOptions& options, const LayerSite& site,
                         const std::string& where);
std::shared_ptr<RouterImpl> make_gshard_router(const GshardRouterOptions& options,
                                               const LayerSite& site);

}  // namespace moekit::nn
