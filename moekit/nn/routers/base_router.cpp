#include "moekit/nn/routers/base_router.h"

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/balanced_assignment.h"
#include "moekit/nn/top_k.h"

namespace moekit::nn {

BaseRouterImpl::BaseRouterImpl(BaseRouterOptions options_) : options(std::move(options_)) {
  MOEKIT_CHECK(options.num_experts() >= 1, "BaseRouter: num_experts must be at least 1; got ",
               options.num_experts());
  reset();
}

void BaseRouterImpl::reset() {
  register_weight(options.num_experts(), options.hidden_size());
  reset_parameters({});
}

void BaseRouterImpl::reset_parameters(const at::Generator& generator) {
  constexpr double kSize = 0.1;
  const torch::NoGradGuard no_grad;
  weight.normal_(0, 1, generator);
  // Rows of Q where there are no more than columns, else columns: as torch::nn::init::orthogonal_,
  // which takes no generator.
  const bool wide = weight.size(0) <= weight.size(1);
  const auto tall = (wide ? weight.t() : weight).to(torch::kFloat64).contiguous();
  const auto [q, r] = torch::linalg_qr(tall, "reduced");
  const auto signed_q = q * r.diagonal().sign();
  weight.copy_((wide ? signed_q.t() : signed_q) * kSize);
}

Routing BaseRouterImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  const auto logits = logits_of("BaseRouter", tokens);
  MOEKIT_CHECK(!context.training || tokens.size(0) % num_experts() == 0,
               "BaseRouter: ", tokens.size(0), " tokens cannot be dealt out evenly to ",
               num_experts(), " experts: the batch's tokens must be a multiple of num_experts");
  const auto expert = context.training ? balanced_assignment(logits) : top1_index(logits.detach());
  const auto weight_of = torch::sigmoid(logits.gather(1, expert.unsqueeze(1)).squeeze(1));
  auto routing =
      route_assignments(logits, torch::arange(tokens.size(0), torch::kLong), expert, weight_of);
  routing.expert_index = expert.unsqueeze(1);
  return routing;
}

RouterTraits BaseRouterImpl::traits() const {
  RouterTraits traits;
  traits.top_k = 1;
  traits.token_multiple = num_experts();
  traits.combine_weights = CombineWeights::kProbs;
  return traits;
}

void BaseRouterImpl::take_experts(ExpertEdit& edit) {
  edit.take_rows(weight);
  edit.then([this, experts = edit.index.numel()] { options.num_experts(experts); });
}

std::shared_ptr<RouterImpl> make_base_router(const BaseRouterOptions& /*options*/,
                                             const LayerSite& site) {
  return std::make_shared<BaseRouterImpl>(BaseRouterOptions(site.size(), site.num_experts));
}

}  // namespace moekit::nn
