#include "moekit/tasks/sparse_layer/checks.h"

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/merge/linear_assignment.h"
#include "moekit/metrics/load.h"
#include "moekit/nn/balanced_assignment.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/hash_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/soft_moe.h"
#include "moekit/tensor/generator.h"

namespace moekit::sparse_layer {
namespace {

at::Generator generator_of(const Config& config, const char* what) {
  return tensor::make_generator(derive_seed(static_cast<uint64_t>(config.seed), what));
}

torch::Tensor drawn(const Config& config, const char* what, at::IntArrayRef sizes) {
  return torch::empty(sizes).normal_(0, 1, generator_of(config, what));
}

std::shared_ptr<nn::MlpExpertsImpl> make_experts(const Config& config) {
  const auto& c = config.layer;
  auto experts = std::make_shared<nn::MlpExpertsImpl>(
      nn::MlpExpertsOptions(c.hidden_size, c.intermediate_size, c.num_experts)
          .activation(nn::Activation::kSwiglu)
          .bias(false));
  experts->reset_parameters(generator_of(config, "experts"));
  return experts;
}

double distance(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>() / b.abs().max().item<double>();
}

double furthest_from_one(const torch::Tensor& sums) {
  return (sums - 1).abs().max().item<double>();
}

}  // namespace

Json check_dropless(const Config& config) {
  const torch::NoGradGuard no_grad;
  const auto& c = config.layer;
  const auto weights =
      c.top_k == 1 ? nn::CombineWeights::kProbs : nn::CombineWeights::kRenormalized;
  auto router =
      std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(c.hidden_size, c.num_experts)
                                                 .top_k(c.top_k)
                                                 .combine_weights(weights));
  router->reset_parameters(generator_of(config, "router"));
  const auto experts = make_experts(config);
  const auto x = drawn(config, "tokens", {c.tokens, c.hidden_size});
  const auto values = [&](const nn::MoEOptions& options) {
    return nn::MoE(router, experts, options)->forward_with_routing(x).values;
  };
  const auto routing = router->forward(x, {});
  const auto all = experts->forward_all(x).values;  // [E, T, D]
  auto want = torch::zeros_like(x);
  for (int64_t a = 0; a < routing.num_assignments(); ++a) {
    const auto t = routing.token[a].item<int64_t>();
    want[t] += routing.weight[a] * all[routing.expert[a].item<int64_t>()][t];
  }
  const double room = static_cast<double>(c.num_experts) / static_cast<double>(c.top_k);
  return {{"fused", distance(values({}), want)},
          {"composed", distance(values(nn::MoEOptions().fused(false)), want)},
          {"capacity", distance(values(nn::MoEOptions().capacity_factor(room)), want)}};
}

Json check_soft(const Config& config) {
  const auto& c = config.layer;
  nn::SoftMoE layer(nn::SoftMoEOptions(c.hidden_size).slots_per_expert(c.slots_per_expert),
                    make_experts(config));
  layer->reset_parameters(generator_of(config, "soft"));
  layer->to(torch::kFloat64);
  auto x = drawn(config, "sequences", {2, c.tokens / 2, c.hidden_size}).to(torch::kFloat64);
  x.requires_grad_();
  const auto weight = drawn(config, "weight", x.sizes()).to(torch::kFloat64);
  auto leaves = layer->parameters();
  leaves.push_back(x);
  nn::SoftMoEOutput output;
  {
    const torch::AutoGradMode with_graph(true);
    output = layer->forward_with_shares(x);
    (output.values * weight).sum().backward();
  }
  const torch::NoGradGuard no_grad;
  constexpr int kDirections = 8;
  constexpr double kStep = 1e-5;  // of float64: errors of order step^2 and 1e-16 / step
  auto generator = generator_of(config, "directions");
  double apart = 0;
  double largest = 0;
  for (int i = 0; i < kDirections; ++i) {
    std::vector<torch::Tensor> direction;
    double slope = 0;
    for (const auto& leaf : leaves) {
      direction.push_back(torch::empty_like(leaf).normal_(0, 1, generator));
      slope += (leaf.grad() * direction.back()).sum().item<double>();
    }
    const auto at = [&](double step) {
      for (size_t l = 0; l < leaves.size(); ++l) leaves[l].add_(direction[l], step);
      const double value = (layer->forward(x) * weight).sum().item<double>();
      for (size_t l = 0; l < leaves.size(); ++l) leaves[l].sub_(direction[l], step);
      return value;
    };
    apart = std::max(apart, std::abs((at(kStep) - at(-kStep)) / (2 * kStep) - slope));
    largest = std::max(largest, std::abs(slope));
  }
  return {{"columns", furthest_from_one(output.dispatch.sum(1))},
          {"rows", furthest_from_one(output.combine.sum(2))},
          {"gradient", apart / largest}};
}

Json check_balanced(const Config& config) {
  const auto& c = config.layer;
  const auto scores = drawn(config, "scores", {c.tokens, c.num_experts});
  const auto expert = nn::balanced_assignment(scores);
  const int64_t share = c.tokens / c.num_experts;
  const auto load = torch::bincount(expert, {}, c.num_experts);
  // The same as a matching of tokens and places, each expert having T/E of these.
  const auto cost = (-scores.repeat_interleave(share, 1)).contiguous();
  const auto place = merge::assign(cost.data_ptr<float>(), c.tokens);
  double best = 0;
  for (int64_t t = 0; t < c.tokens; ++t) {
    best -= cost[t][place[static_cast<size_t>(t)]].item<double>();
  }
  const double got = scores.gather(1, expert.unsqueeze(1)).sum(torch::kFloat64).item<double>();
  const double range = (scores.max() - scores.min()).item<double>();
  constexpr double kOfRange = 50;  // of the released auction
  return {{"uneven", (load - share).abs().max().item<double>()},
          {"gap", (best - got) / (range / kOfRange * static_cast<double>(c.tokens))}};
}

Json check_hash(const Config& config) {
  const auto& c = config.layer;
  nn::HashRouter router(nn::HashRouterOptions(c.vocabulary, c.num_experts).table_seed(config.seed));
  nn::RouterContext context;
  context.token_id =
      torch::randint(c.vocabulary, {c.tokens}, generator_of(config, "ids"), torch::kLong);
  const auto x = drawn(config, "tokens", {c.tokens, c.hidden_size});
  const auto expert = router->forward(x, context).expert;
  auto first = torch::full({c.vocabulary}, -1, torch::kLong);
  int64_t moved = 0;
  for (int64_t t = 0; t < c.tokens; ++t) {
    auto known = first[context.token_id[t].item<int64_t>()];
    if (known.item<int64_t>() < 0) known.copy_(expert[t]);
    moved += known.item<int64_t>() != expert[t].item<int64_t>() ? 1 : 0;
  }
  const auto load = metrics::load_stats(metrics::expert_load(expert, c.num_experts));
  return {{"moved", moved},
          {"entropy", load.entropy_bits / std::log2(static_cast<double>(c.num_experts))}};
}

}  // namespace moekit::sparse_layer
