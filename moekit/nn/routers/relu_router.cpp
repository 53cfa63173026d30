#include "moekit/nn/routers/relu_router.h"

#include <algorithm>
#include <cmath>

#include "moekit/core/config.h"
#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

// A coefficient that fell or rose for thousands of steps would become 0 or infinite, and stay it.
constexpr double kLeastCoefficient = 1e-30;
constexpr double kMostCoefficient = 1e30;

void check_average(const ReluRouterOptions& o, const std::string& where) {
  MOEKIT_CHECK(
      o.experts_per_token() > 0 && o.experts_per_token() <= static_cast<double>(o.num_experts()),
      where, "experts_per_token must be above 0 and at most the ", o.num_experts(),
      " experts; got ", o.experts_per_token());
}

/// The penalty without its coefficient. @param wanted  experts a token
torch::Tensor penalty_of(const Routing& routing, double wanted) {
  const auto weights = torch::relu(routing.logits);
  if (routing.num_tokens() == 0) return weights.sum();
  const auto count =
      torch::bincount(routing.expert, {}, routing.num_experts()).to(weights.scalar_type());
  const double scale = static_cast<double>(routing.num_experts()) /
                       (wanted * static_cast<double>(routing.num_tokens()));
  return (count * weights.mean(0)).sum() * scale;
}

}  // namespace

ReluRouterImpl::ReluRouterImpl(ReluRouterOptions options_) : options(std::move(options_)) {
  check_values(options, "ReluRouter");
  check_average(options, "ReluRouter: ");
  reset();
}

void ReluRouterImpl::reset() {
  register_weight(options.num_experts(), options.hidden_size());
  coefficient = register_buffer("coefficient", torch::zeros({1}, torch::kFloat64));
  reset_parameters({});
}

void ReluRouterImpl::reset_parameters(const at::Generator& generator) {
  ProjectionRouterImpl::reset_parameters(generator);
  coefficient.fill_(options.first_coefficient());
  load_ = {};
}

Routing ReluRouterImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  const auto logits = logits_of("ReluRouter", tokens);
  const auto weights = torch::relu(logits);
  const auto chosen = weights.detach().nonzero();  // [A, 2], by token, then by expert
  const auto token = chosen.select(1, 0).contiguous();
  const auto expert = chosen.select(1, 1).contiguous();
  auto routing = route_assignments(
      logits, token, expert, weights.flatten().index_select(0, token * num_experts() + expert));
  if (!context.training) return routing;
  const double factor = coefficient.item<double>();
  routing.penalty = [factor, wanted = options.experts_per_token()](const Routing& of) {
    return penalty_of(of, wanted) * factor;
  };
  // With a graph alone: a pass that only looks at the routings comes before the one that learns.
  if (at::GradMode::is_enabled()) {
    load_.assignments += routing.num_assignments();
    load_.pairs += logits.numel();
  }
  return routing;
}

void ReluRouterImpl::end_step(const StepLoad& model) {
  load_ = {};
  if (model.pairs == 0) return;
  const double share = static_cast<double>(model.assignments) / static_cast<double>(model.pairs);
  const double wanted = options.experts_per_token() / static_cast<double>(num_experts());
  const double factor = share > wanted ? options.multiplier() : 1 / options.multiplier();
  coefficient.mul_(factor).clamp_(kLeastCoefficient, kMostCoefficient);
}

RouterTraits ReluRouterImpl::traits() const {
  RouterTraits traits;
  traits.combine_weights = CombineWeights::kLogits;
  traits.penalizes = true;
  return traits;
}

void ReluRouterImpl::take_experts(ExpertEdit& edit) {
  edit.take_rows(weight);
  edit.then([this, experts = edit.index.numel()] {
    const double most = std::min(options.experts_per_token(), static_cast<double>(experts));
    options.num_experts(experts).experts_per_token(most);
  });
}

void check_relu_router(const ReluRouterOptions& options, const LayerSite& site,
                       const std::string& where) {
  check_average(ReluRouterOptions(options).num_experts(site.num_experts), where + ".");
}

std::shared_ptr<RouterImpl> make_relu_router(const ReluRouterOptions& options,
                                             const LayerSite& site) {
  return std::make_shared<ReluRouterImpl>(
      ReluRouterOptions(options).hidden_size(site.size()).num_experts(site.num_experts));
}

}  // namespace moekit::nn
