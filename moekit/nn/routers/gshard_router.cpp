#include "moekit/nn/routers/gshard_router.h"

#include "moekit/core/error.h"
#include "moekit/nn/top_k.h"

namespace moekit::nn {
namespace {

void check_two_experts(int64_t num_experts, const std::string& where) {
  MOEKIT_CHECK(num_experts >= 2, where, "a token goes to two experts; there is ", num_experts);
}

}  // namespace

GshardRouterImpl::GshardRouterImpl(GshardRouterOptions options_) : options(std::move(options_)) {
  check_two_experts(options.num_experts(), "GshardRouter: ");
  reset();
}

void GshardRouterImpl::reset() {
  register_weight(options.num_experts(), options.hidden_size());
  reset_parameters({});
}

Routing GshardRouterImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  const auto logits = logits_of("GshardRouter", tokens);
  const auto best = top_k_index(logits, 2);
  const auto share = torch::softmax(logits.gather(1, best), 1);
  auto second = torch::arange(tokens.size(0), torch::kLong);
  if (context.training && options.random_second()) {
    const auto drawn = torch::empty({tokens.size(0)}).uniform_(0, 1, context.generator);
    second = drawn.to(share.scalar_type()).lt(2 * share.detach().select(1, 1)).nonzero().squeeze(1);
  }
  const auto list = [&](const torch::Tensor& of) {
    return torch::cat({of.select(1, 0), of.select(1, 1).index_select(0, second)});
  };
  const auto first = torch::arange(tokens.size(0), torch::kLong);
  return route_assignments(logits, torch::cat({first, second}), list(best), list(share));
}

RouterTraits GshardRouterImpl::traits() const {
  RouterTraits traits;
  traits.adds_noise = options.random_second();
  return traits;
}

void GshardRouterImpl::take_experts(ExpertEdit& edit) {
  check_two_experts(edit.index.numel(), "GshardRouter: ");
  edit.take_rows(weight);
  edit.then([this, experts = edit.index.numel()] { options.num_experts(experts); });
}

void check_gshard_router(const GshardRouterOptions& /*options*/, const LayerSite& site,
                         const std::string& where) {
  check_two_experts(site.num_experts, where + ": ");
}

std::shared_ptr<RouterImpl> make_gshard_router(const GshardRouterOptions& options,
                                               const LayerSite& site) {
  return std::make_shared<GshardRouterImpl>(
      GshardRouterOptions(options).hidden_size(site.size()).num_experts(site.num_experts));
}

}  // namespace moekit::nn
