#include "moekit/nn/routers/linear_router.h"

#include "moekit/core/config.h"
#include "moekit/core/error.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/routers/trunk.h"

namespace moekit::nn {

namespace {

/// Divides the K weights of each token by their p-norm.
void divide_by_norm(Routing& routing, double p) {
  const auto of_token = routing.weight.view({routing.num_tokens(), -1});
  routing.weight = (of_token / of_token.norm(p, {1}, true)).flatten();
}

/// @param where  "LinearRouter: ", or the path of a recipe's section with a dot
void check_options(const LinearRouterOptions& options, const std::string& where) {
  MOEKIT_CHECK(options.num_experts() >= 1, where, "num_experts must be at least 1; got ",
               options.num_experts());
  check_top_k(options.top_k(), options.num_experts(), where);
  MOEKIT_CHECK(options.noise_scale() > 0 ||
                   (options.noise_scale() == 0 && options.noise() == RouterNoise::kNone),
               where, "noise_scale must be positive with noise = \"", enum_name(options.noise()),
               "\" (an empty range is no noise); got ", options.noise_scale());
  MOEKIT_CHECK(options.noise() != RouterNoise::kNone || options.noise_scale() == 0 ||
                   options.noise_scale() == LinearRouterOptions{}.noise_scale(),
               where, "noise_scale has no effect with noise = \"none\"; got ",
               options.noise_scale());
  const bool shares = options.combine_weights() == CombineWeights::kProbs ||
                      options.combine_weights() == CombineWeights::kCleanProbs;
  MOEKIT_CHECK(options.weight_norm() == 0 || shares, where,
               "weight_norm wants combine_weights = \"probs\" or \"clean_probs\"; got \"",
               enum_name(options.combine_weights()), "\"");
}

}  // namespace

LinearRouterImpl::LinearRouterImpl(LinearRouterOptions options_, torch::nn::AnyModule trunk_)
    : options(std::move(options_)), trunk(std::move(trunk_)) {
  check_values(options, "LinearRouter");
  check_options(options, "LinearRouter: ");
  reset();
}

void LinearRouterImpl::reset() {
  trunk = register_trunk(*this, trunk);
  const auto size = {options.num_experts(), options.hidden_size()};
  weight = register_parameter("weight", torch::empty(size));
  if (options.bias()) bias = register_parameter("bias", torch::empty({options.num_experts()}));
  if (options.noise() == RouterNoise::kGaussian) {
    noise_weight = register_parameter("noise_weight", torch::empty(size));
  }
  if (options.residual() && options.previous_experts() > 0) {
    residual_weight = register_parameter(
        "residual_weight", torch::empty({options.num_experts(), options.previous_experts()}));
  }
  reset_parameters({});
}

void LinearRouterImpl::reset_parameters(const at::Generator& generator) {
  reset_trunk(trunk, generator);
  const torch::NoGradGuard no_grad;
  if (options.init() == RouterInit::kZero) {
    weight.zero_();
    if (bias.defined()) bias.zero_();
  } else {
    init_uniform_fan_in(weight, options.hidden_size(), generator);
    if (bias.defined()) init_uniform_fan_in(bias, options.hidden_size(), generator);
  }
  if (noise_weight.defined()) noise_weight.zero_();
  if (residual_weight.defined()) {
    init_uniform_fan_in(residual_weight, options.previous_experts(), generator);
  }
}

Routing LinearRouterImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  const auto hidden = run_trunk(trunk, tokens);
  MOEKIT_CHECK(hidden.dim() == 2 && hidden.size(1) == options.hidden_size(),
               "LinearRouter: tokens must be [N, ", options.hidden_size(), "]; got ",
               hidden.sizes());
  const auto type = compute_type(hidden, weight);
  const auto input = hidden.to(type);
  // An operation on a few logits costs what starting it costs: none by a factor of 1.
  auto clean = torch::linear(input, weight.to(type), bias.defined() ? bias.to(type) : bias);
  if (options.temperature() != 1) clean = clean / options.temperature();
  if (residual_weight.defined()) {
    const auto& before = context.previous_logits;
    MOEKIT_CHECK(before.defined() && before.dim() == 2 && before.size(0) == clean.size(0) &&
                     before.size(1) == options.previous_experts(),
                 "LinearRouter: residual = true needs the logits [", clean.size(0), ", ",
                 options.previous_experts(), "] of the mixture before; got ",
                 before.defined() ? concat(before.sizes()) : std::string("none"));
    clean = clean + torch::linear(before.to(type), residual_weight.to(type));
  }
  const auto weighted = [&](Routing routing) {
    if (options.weight_norm() > 0) divide_by_norm(routing, options.weight_norm());
    return routing;
  };
  if (!(context.training || context.always_noise) || options.noise() == RouterNoise::kNone) {
    return weighted(route(clean, options.top_k(), options.combine_weights()));
  }
  torch::Tensor noise_std;
  torch::Tensor noise;
  if (options.noise() == RouterNoise::kGaussian) {
    noise_std = torch::softplus(torch::linear(input, noise_weight.to(type)));
    if (options.noise_scale() != 1) noise_std = noise_std * options.noise_scale();
    noise = torch::empty_like(clean).normal_(0, 1, context.generator) * noise_std;
  } else {
    noise = torch::empty_like(clean).uniform_(0, 1, context.generator) * options.noise_scale();
  }
  auto routing = weighted(route(clean + noise, options.top_k(), options.combine_weights(), clean));
  routing.noise_std = noise_std;
  return routing;
}

RouterTraits LinearRouterImpl::traits() const {
  RouterTraits traits;
  traits.top_k = options.top_k();
  traits.no_weight_gradient =
      why_no_gradient(options.top_k(), options.num_experts(), options.combine_weights());
  if (options.weight_norm() > 0 && options.top_k() == 1) {
    traits.no_weight_gradient =
        "top_k = 1 with a weight_norm gives the weight 1 whatever the router says";
  }
  traits.combine_weights = options.combine_weights();
  traits.aux_only = options.aux_only();
  traits.adds_noise = options.noise() != RouterNoise::kNone;
  traits.gaussian_noise = options.noise() == RouterNoise::kGaussian;
  return traits;
}

torch::Tensor LinearRouterImpl::directions() const { return weight.detach(); }

std::vector<torch::Tensor> LinearRouterImpl::expert_rows() const {
  std::vector<torch::Tensor> rows{weight};
  if (bias.defined()) rows.push_back(bias);
  if (noise_weight.defined()) rows.push_back(noise_weight);
  if (residual_weight.defined()) rows.push_back(residual_weight);
  return rows;
}

void LinearRouterImpl::pretty_print(std::ostream& stream) const {
  stream << "moekit::nn::LinearRouter(hidden_size=" << options.hidden_size()
         << ", num_experts=" << options.num_experts() << ", top_k=" << options.top_k() << ")";
}

void LinearRouterImpl::take_experts(ExpertEdit& edit) {
  for (auto* parameter : {&weight, &bias, &noise_weight, &residual_weight})
    edit.take_rows(*parameter);
  // "All experts" stays all; a fixed K may not exceed the experts that are left.
  edit.then([this, experts = edit.index.numel()] {
    options.num_experts(experts).top_k(std::min(options.top_k(), experts));
  });
}

void check_linear_router(const LinearRouterConfig& config, const LayerSite& site,
                         const std::string& where) {
  check_trunk(config.front, site, where);
  check_options(LinearRouterOptions(config.router).num_experts(site.num_experts), where + ".");
  MOEKIT_CHECK(!config.router.residual() || site.previous_experts > 0, where,
               ".residual = true has no effect: the model has no second mixture, which could take "
               "another's logits");
}

std::shared_ptr<RouterImpl> make_linear_router(const LinearRouterConfig& config,
                                               const LayerSite& site) {
  auto trunk = make_trunk(config.front, site);
  auto options = config.router;
  options.hidden_size(trunk.size).num_experts(site.num_experts);
  options.previous_experts(site.previous_experts);
  return std::make_shared<LinearRouterImpl>(std::move(options), std::move(trunk.module));
}

}  // namespace moekit::nn
