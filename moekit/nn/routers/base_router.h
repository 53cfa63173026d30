#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/routers/projection_router.h"

namespace moekit::nn {

struct BaseRouterOptions {
  BaseRouterOptions() = default;
  BaseRouterOptions(int64_t hidden_size, int64_t num_experts)
      : hidden_size_(hidden_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size) = 0;  ///< D
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E

 public:
  template <typename Field>
  void visit(Field&&) {}
};

/// In training every expert gets T / E tokens, dealt out by `balanced_assignment` of x . w_e;
/// outside of training a token goes to the expert of the largest x . w_e. The weight is
/// a = sigmoid(x . w_e), the only way by which w learns: no loss is needed.
///
/// The source's layer gives a F(x) + (1 - a) x with F(x) = x + f(x), which is x + a f(x): a block
/// with a residual connection around a layer of experts f.
///
/// What a token gets in training depends on all others, those behind it too; outside of training on
/// itself alone. Source: Lewis et al. 2021, arXiv:2103.16716, section 3.
class BaseRouterImpl : public Cloneable<BaseRouterImpl, ProjectionRouterImpl> {
 public:
  explicit BaseRouterImpl(BaseRouterOptions options);
  void reset() override;
  /// Orthogonal rows of size 0.1, as the released code.
  void reset_parameters(const at::Generator& generator) override;
  /// @throws ArgumentError in training, unless E divides the number of tokens
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  void take_experts(ExpertEdit& edit) override;
  RouterTraits traits() const override;

  BaseRouterOptions options;
};
TORCH_MODULE(BaseRouter);

std::shared_ptr<RouterImpl> make_base_router(const BaseRouterOptions& options,
                                             const LayerSite& site);

}  // namespace moekit::nn
