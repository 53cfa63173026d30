#include "moekit/nn/experts/zero_computation_experts.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/nn/losses/balance_loss.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/surgery.h"

namespace moekit::nn {
namespace {

/// Two feed-forward experts, two constant ones, a copy and a zero.
ZeroComputationExperts pool(int64_t constants = 2, int64_t copies = 1, int64_t zeros = 1) {
  ZeroComputationOptions options;
  options.mlp = MlpExpertsOptions(5, 7, 2).activation(Activation::kSwiglu).bias(false);
  options.constant_experts(constants).copy_experts(copies).zero_experts(zeros);
  return ZeroComputationExperts(options);
}

torch::Tensor constant_of(ZeroComputationExperts& experts, int64_t which, const torch::Tensor& x) {
  const auto a = torch::softmax(experts->blend[which].matmul(x), 0);
  return a[0] * x + a[1] * experts->constant[which];
}

TEST(ZeroComputationExperts, AreBlendsCopiesAndZerosBehindTheOthers) {
  torch::manual_seed(1);
  auto experts = pool();
  ASSERT_EQ(experts->num_experts(), 6);
  EXPECT_EQ(experts->num_computing(), 2);
  const auto x = torch::randn({3, 5});
  const auto all = experts->forward_all(x).values;
  ASSERT_EQ(all.sizes(), torch::IntArrayRef({6, 3, 5}));
  EXPECT_TRUE(torch::equal(all.narrow(0, 0, 2), experts->ffn->forward_all(x).values));
  for (int64_t n = 0; n < 3; ++n) {
    for (int64_t c = 0; c < 2; ++c) {
      EXPECT_TRUE(torch::allclose(all[2 + c][n], constant_of(experts, c, x[n]), 1e-5, 1e-6));
    }
  }
  EXPECT_TRUE(torch::equal(all[4], x));
  EXPECT_EQ(all[5].abs().sum().item<double>(), 0);
}

TEST(ZeroComputationExperts, AllPathsGiveTheSameValuesAndGradients) {
  torch::manual_seed(2);
  for (const int64_t top_k : {1, 2, 6}) {
    auto experts = pool();
    auto router = std::make_shared<LinearRouterImpl>(
        LinearRouterOptions(5, 6).top_k(top_k).combine_weights(CombineWeights::kProbs));
    const auto weights = torch::randn({40, 5});
    const auto tokens = torch::randn({40, 5});
    std::vector<torch::Tensor> values;
    std::vector<std::vector<torch::Tensor>> gradients;
    const auto keep = [&](const torch::Tensor& out, const torch::Tensor& x) {
      values.push_back(out.detach());
      auto leaves = experts->parameters();
      for (const auto& p : router->parameters()) leaves.push_back(p);
      leaves.push_back(x);
      gradients.push_back(torch::autograd::grad({(out * weights).sum()}, leaves, {}, {}, false,
                                                /*allow_unused=*/true));
    };
    for (const bool fused : {true, false}) {
      const auto x = tokens.clone().requires_grad_();
      MoE layer(router, experts.ptr(), MoEOptions().fused(fused));
      keep(layer->forward(x), x);
    }
    const auto x = tokens.clone().requires_grad_();
    const auto routing = router->forward(x, {});
    const auto all = experts->forward_all(x).values;
    const auto chosen =
        all.permute({1, 0, 2}).flatten(0, 1).index_select(0, routing.token * 6 + routing.expert);
    keep(
        torch::zeros_like(tokens).index_add(0, routing.token, chosen * routing.weight.unsqueeze(1)),
        x);
    for (size_t path = 0; path < 2; ++path) {
      EXPECT_TRUE(torch::allclose(values[path], values[2], 1e-4, 1e-5)) << path << " " << top_k;
      for (size_t i = 0; i < gradients[2].size(); ++i) {
        if (!gradients[2][i].defined()) continue;
        EXPECT_TRUE(torch::allclose(gradients[path][i], gradients[2][i], 1e-3, 1e-4))
            << path << " " << top_k << " " << i;
      }
    }
  }
}

TEST(ZeroComputationExperts, AnyOfThemMayBeMissing) {
  torch::manual_seed(3);
  for (const auto& [constants, copies, zeros] :
       {std::tuple{0, 1, 0}, std::tuple{0, 0, 1}, std::tuple{3, 0, 0}}) {
    auto experts = pool(constants, copies, zeros);
    const int64_t count = experts->num_experts();
    MoE layer(std::make_shared<LinearRouterImpl>(LinearRouterOptions(5, count).top_k(2)),
              experts.ptr());
    const auto x = torch::randn({20, 5});
    const auto routing = layer->forward_with_routing(x).routing;
    const auto all = experts->forward_all(x).values.permute({1, 0, 2}).flatten(0, 1);
    const auto want = torch::zeros_like(x).index_add(
        0, routing.token,
        all.index_select(0, routing.token * count + routing.expert) * routing.weight.unsqueeze(1));
    EXPECT_TRUE(torch::allclose(layer->forward(x), want, 1e-4, 1e-5));
  }
  EXPECT_THROW(pool(0, 0, 0), ArgumentError);
  EXPECT_THROW(check_zero_computation_experts({}, LayerSite{{5}, 4, 5}, "model.expert"),
               ArgumentError);  // no feed-forward expert is left
  EXPECT_THROW(check_zero_computation_experts({}, LayerSite{{5}, 8, 3}, "model.expert"),
               ArgumentError);
  EXPECT_NO_THROW(check_zero_computation_experts({}, LayerSite{{5}, 5, 5}, "model.expert"));
}

TEST(ZeroComputationExperts, ACloneSharesNothingAndNoExpertIsTakenOut) {
  const torch::NoGradGuard no_grad;
  auto experts = pool();
  const auto x = torch::randn({4, 5});
  const auto before = experts->forward_all(x).values;
  auto copy = std::dynamic_pointer_cast<ZeroComputationExpertsImpl>(experts->clone());
  EXPECT_TRUE(torch::equal(copy->forward_all(x).values, before));
  for (auto& parameter : copy->parameters()) parameter.zero_();
  EXPECT_TRUE(torch::equal(experts->forward_all(x).values, before));
  MoE layer(std::make_shared<LinearRouterImpl>(LinearRouterOptions(5, 6).top_k(2)), experts.ptr());
  EXPECT_THROW(take_experts(*layer, {0, 1, 2}), ArgumentError);
  EXPECT_EQ(layer->router->num_experts(), 6);
}

TEST(BalanceTau, WeighsTheTermsOfExpertsThatComputeNothing) {
  auto experts = pool();
  auto router = std::make_shared<LinearRouterImpl>(LinearRouterOptions(5, 6).top_k(2));
  MoE layer(router, experts.ptr());
  const LossSite site{routed_layers(*layer)};
  BalanceLossOptions options{0.5};
  options.tau = 0.25;
  check_balance_loss(options, site, "loss");
  const auto routing = router->forward(torch::randn({30, 5}), {});
  const auto share = torch::bincount(routing.expert, {}, 6).to(torch::kFloat) / 60;
  const auto weight = torch::tensor({1.0F, 1.0F, 0.25F, 0.25F, 0.25F, 0.25F});
  const auto want = 0.5 * 6 * (weight * share * routing.probs.mean(0)).sum();
  EXPECT_TRUE(torch::allclose(make_balance_loss(options, site).value({routing, {}}), want));
  // The paper's: sum of eta_i f_i P_i with f_i over tokens is K / E times ours.
  const auto papers = (weight * share * 2 * routing.probs.mean(0)).sum();
  EXPECT_TRUE(torch::allclose(want / 0.5 * 2 / 6, papers));
  auto plain = std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(5, 7, 6));
  MoE other(router, plain);
  EXPECT_THROW(check_balance_loss(options, {routed_layers(*other)}, "loss"), ArgumentError);
  auto of_logits = options;
  of_logits.balance_of = BalanceOf::kLogits;
  EXPECT_THROW(check_balance_loss(of_logits, site, "loss"), ArgumentError);
  auto within = options;
  within.per_sequence = true;
  EXPECT_THROW(check_balance_loss(within, site, "loss"), ArgumentError);
  options.balance = 0;
  EXPECT_THROW(check_balance_loss(options, site, "loss"), ArgumentError);
}

}  // namespace
}  // namespace moekit::nn
