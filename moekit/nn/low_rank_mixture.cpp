#include "moekit/nn/low_rank_mixture.h"

#include "moekit/core/error.h"
#include "moekit/nn/token_rows.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

/// A token's experts in ascending order, and the weights of these. Both [N, k].
std::pair<torch::Tensor, torch::Tensor> in_order(const Routing& routing) {
  const auto weight = routing.weight.view_as(routing.expert_index);
  const auto [index, order] = routing.expert_index.sort(1);
  return {index, weight.gather(1, order)};
}

}  // namespace

void check_low_rank(const LowRankOptions& o, const std::string& where) {
  MOEKIT_CHECK(o.num_experts() >= 0 && o.rank() >= 1 && o.alpha() > 0 && o.top_k() >= 0, where,
               ": num_experts, rank, alpha and top_k must be at least 0, 1, above 0 and at least "
               "0; got ",
               o.num_experts(), ", ", o.rank(), ", ", o.alpha(), " and ", o.top_k());
  const LowRankOptions usual;
  if (o.num_experts() == 0) {
    MOEKIT_CHECK(o.rank() == usual.rank() && o.alpha() == usual.alpha() && o.top_k() == 0 &&
                     !o.orthogonal() && o.orthogonal_size() == usual.orthogonal_size(),
                 where, ": its other keys have no effect with num_experts = 0");
    return;
  }
  MOEKIT_CHECK(o.top_k() <= o.num_experts(), where, ".top_k must be 0 (all) or 1..",
               o.num_experts(), "; got ", o.top_k());
  MOEKIT_CHECK(o.top_k() != 1, where,
               ".top_k = 1 with weights that sum to 1 gives no router a gradient; wanted 0 or 2 "
               "and more");
  MOEKIT_CHECK(!o.orthogonal() || o.num_experts() > 1, where,
               ".orthogonal has no effect on one expert");
  MOEKIT_CHECK(o.orthogonal() || o.orthogonal_size() == usual.orthogonal_size(), where,
               ".orthogonal_size has no effect without orthogonal");
}

LowRankMixtureImpl::LowRankMixtureImpl(int64_t in_features, int64_t out_features,
                                       LowRankOptions options_)
    : options(options_) {
  check_low_rank(options, "LowRankMixture");
  MOEKIT_CHECK(options.num_experts() >= 1, "LowRankMixture: wants an expert");
  MOEKIT_CHECK(!options.orthogonal() || options.num_experts() <= out_features,
               "LowRankMixture: outputs of ", options.num_experts(),
               " experts cannot be orthogonal in ", out_features, " dimensions");
  if (options.num_experts() > 1) {
    router = LinearRouter(
        LinearRouterOptions(in_features, options.num_experts()).top_k(options.top_k()).bias(false));
  }
  experts = MlpExperts(MlpExpertsOptions(in_features, options.rank(), options.num_experts())
                           .output_size(out_features)
                           .activation(Activation::kIdentity)
                           .bias(false)
                           .init(ExpertInit::kZeroOutput));
  start_with(options.num_experts());
  register_parts();
}

void LowRankMixtureImpl::register_parts() {
  if (router) register_module("router", router);
  register_module("experts", experts);
}

void LowRankMixtureImpl::reset() {
  if (router) router = LinearRouter(std::dynamic_pointer_cast<LinearRouterImpl>(router->clone()));
  experts = MlpExperts(std::dynamic_pointer_cast<MlpExpertsImpl>(experts->clone()));
  register_parts();
}

void LowRankMixtureImpl::reset_parameters(const at::Generator& routers,
                                          const at::Generator& others) {
  if (router) router->reset_parameters(routers);
  experts->reset_parameters(others);
}

LowRankMixtureImpl::Outputs LowRankMixtureImpl::expert_outputs(const torch::Tensor& tokens,
                                                               const torch::Tensor& index) {
  const double scale = options.alpha() / static_cast<double>(options.rank());
  auto before = experts->forward_all(tokens).values.transpose(0, 1) * scale;  // [N, n, O]
  if (index.defined()) {
    before = before.gather(1, index.unsqueeze(2).expand({-1, -1, before.size(2)}));
  }
  return {before, options.orthogonal() ? orthogonalize(before, options.orthogonal_size()) : before};
}

torch::Tensor LowRankMixtureImpl::weighted_sum(const torch::Tensor& tokens,
                                               const torch::Tensor& weight) {
  const double scale = options.alpha() / static_cast<double>(options.rank());
  const auto inner = tokens
                         .matmul(experts->up_proj.flatten(0, 1).t())  // [N, n r]
                         .unflatten(1, {options.num_experts(), options.rank()});
  const auto outer = experts->down_proj.transpose(1, 2).flatten(0, 1);  // [n r, O]
  return (inner * weight.unsqueeze(2)).flatten(1).matmul(outer) * scale;
}

torch::Tensor LowRankMixtureImpl::forward(const torch::Tensor& x, const RouterContext& context,
                                          const std::string& name,
                                          std::vector<LayerRouting>& layers) {
  TokenRows rows(x, context, 1);
  rows.context.training = is_training();
  if (!router) return rows.restore(expert_outputs(rows.tokens, {}).after.squeeze(1));
  auto routing =
      tensor::counted("router", [&] { return router->forward(rows.tokens, rows.context); });
  torch::Tensor index;
  auto weight = routing.weight.view_as(routing.expert_index);
  torch::Tensor values;
  if (options.orthogonal()) {
    if (!routing.takes_all) std::tie(index, weight) = in_order(routing);
    values = (expert_outputs(rows.tokens, index).after * weight.unsqueeze(2)).sum(1);
  } else {
    // Without the experts' own outputs, [N, n, O], in memory.
    if (!routing.takes_all) {
      weight = torch::zeros({rows.tokens.size(0), options.num_experts()},
                            weight.options().requires_grad(false))
                   .scatter(1, routing.expert_index, weight);
    }
    values = weighted_sum(rows.tokens, weight);
  }
  routing.rows = rows.rows;
  routing.sequence = rows.context.sequence;
  layers.push_back({name, std::move(routing), rows.tokens, 0});
  return rows.restore(values);
}

}  // namespace moekit::nn
