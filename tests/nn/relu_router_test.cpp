#include "moekit/nn/routers/relu_router.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/losses/aux_loss.h"
#include "moekit/nn/moe_layer.h"

namespace moekit::nn {
namespace {

/// A router whose logits are its tokens.
ReluRouter relu_by_tokens(ReluRouterOptions options) {
  ReluRouter router(std::move(options));
  const torch::NoGradGuard no_grad;
  router->weight.copy_(torch::eye(router->num_experts()));
  return router;
}

RouterContext learning() {
  RouterContext context;
  context.training = true;
  return context;
}

TEST(ReluRouter, TakesEveryExpertWhoseLogitIsAboveZero) {
  auto router = relu_by_tokens(ReluRouterOptions(3, 3));
  const auto x = torch::tensor({{0.5F, -1.0F, 2.0F}, {-1.0F, -2.0F, 0.0F}, {-0.1F, 3.0F, -4.0F}});
  const auto routing = router->forward(x, {});
  EXPECT_TRUE(torch::equal(routing.token, torch::tensor({0, 0, 2}, torch::kLong)));
  EXPECT_TRUE(torch::equal(routing.expert, torch::tensor({0, 2, 1}, torch::kLong)));
  EXPECT_TRUE(torch::equal(routing.weight, torch::tensor({0.5F, 2.0F, 3.0F})));
  EXPECT_FALSE(routing.penalty);  // no training
  EXPECT_EQ(router->forward(torch::zeros({0, 3}), {}).num_assignments(), 0);
}

TEST(ReluRouter, ALayerGivesTokensWithoutExpertsZeros) {
  auto router = relu_by_tokens(ReluRouterOptions(3, 3));
  MoE layer(router.ptr(), std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(3, 5, 3)));
  const auto x = torch::tensor({{0.5F, -1.0F, 2.0F}, {-1.0F, -2.0F, -3.0F}});
  const auto values = layer->forward_with_routing(x).values;
  EXPECT_GT(values[0].abs().sum().item<double>(), 0);
  EXPECT_EQ(values[1].abs().sum().item<double>(), 0);
  const auto each = layer->experts->forward_all(x).values;  // [E, N, O]
  EXPECT_TRUE(torch::allclose(values[0], 0.5 * each[0][0] + 2 * each[2][0], 1e-4, 1e-6));
}

TEST(ReluRouter, ThePenaltyIsLoadTimesMeanWeight) {
  auto router =
      relu_by_tokens(ReluRouterOptions(3, 3).experts_per_token(1).first_coefficient(0.25));
  const auto x = torch::tensor({{0.5F, -1.0F, 2.0F}, {-1.0F, -2.0F, 1.0F}});
  const auto routing = router->forward(x, learning());
  ASSERT_TRUE(bool(routing.penalty));
  // Loads 1, 0, 2 of a wanted 1 * 2 assignments; mean weights 0.25, 0, 1.5.
  const double want = 0.25 * 3 * (1.0 / 2 * 0.25 + 2.0 / 2 * 1.5);
  EXPECT_NEAR(routing.penalty(routing).item<double>(), want, 1e-6);
  const auto terms = aux_losses({routing, x}, {});
  ASSERT_EQ(terms.size(), 1U);
  EXPECT_NEAR(terms[0].value.item<double>(), want, 1e-6);
  terms[0].value.backward();
  EXPECT_GT(router->weight.grad()[0].abs().sum().item<double>(), 0);
  EXPECT_EQ(router->weight.grad()[1].abs().sum().item<double>(), 0);
}

TEST(ReluRouter, TheCoefficientFollowsTheWholeModelsLoad) {
  auto router = relu_by_tokens(ReluRouterOptions(4, 4).experts_per_token(2).multiplier(1.5));
  router->forward(torch::ones({3, 4}), learning());
  router->forward(torch::tensor({{1.0F, -1.0F, -1.0F, -1.0F}}), learning());  // another part
  {
    const torch::NoGradGuard no_grad;  // the pass before the one that learns
    router->forward(torch::ones({9, 4}), learning());
  }
  router->forward(torch::ones({9, 4}), {});
  EXPECT_EQ(router->step_load().assignments, 13);
  EXPECT_EQ(router->step_load().pairs, 16);
  const auto coefficient = [&] { return router->coefficient.item<double>(); };
  router->end_step({13, 16});
  EXPECT_NEAR(coefficient(), 1.5e-8, 1e-20);
  EXPECT_EQ(router->step_load().pairs, 0);
  router->end_step({5, 16});  // of all routers, fewer than half
  EXPECT_NEAR(coefficient(), 1e-8, 1e-20);
  router->end_step({});  // nothing was routed
  EXPECT_NEAR(coefficient(), 1e-8, 1e-20);
  for (int i = 0; i < 10000; ++i) router->end_step({16, 16});
  EXPECT_LE(coefficient(), 1e30);
  router->reset_parameters({});
  EXPECT_NEAR(coefficient(), 1e-8, 1e-20);
}

TEST(ReluRouter, ReachesTheExpertsATokenThatAreWanted) {
  torch::manual_seed(3);
  ReluRouter router(ReluRouterOptions(8, 8).experts_per_token(2).multiplier(1.05));
  torch::optim::Adam optimizer(router->parameters(), 0.01);
  // Of tokens around zero every row has half above zero, whatever it is.
  const auto x = torch::randn({200, 8}) + 1;
  const auto wanted = x.matmul(torch::randn({8, 8}));  // half of it is above zero
  double mean = 0;
  int64_t first = 0;
  for (int step = 0; step < 1500; ++step) {
    optimizer.zero_grad();
    const auto routing = router->forward(x, learning());
    ((routing.logits - wanted).square().mean() + routing.penalty(routing)).backward();
    optimizer.step();
    router->end_step(router->step_load());
    if (step == 0) first = routing.num_assignments();
    if (step >= 1000) mean += static_cast<double>(routing.num_assignments()) / 200 / 500;
  }
  EXPECT_GT(first, 500);
  EXPECT_NEAR(mean, 2, 0.2);
}

TEST(ReluRouter, RefusesWhatIsImpossible) {
  using O = ReluRouterOptions;
  EXPECT_THROW(ReluRouter(O(3, 4).experts_per_token(4.5)), ArgumentError);
  EXPECT_THROW(ReluRouter(O(3, 4).experts_per_token(0)), ArgumentError);
  EXPECT_THROW(ReluRouter(O(3, 4).multiplier(0.5)), ArgumentError);
  EXPECT_THROW(ReluRouter(O(3, 4).first_coefficient(0)), ArgumentError);
  EXPECT_THROW(ReluRouter(O(3, 4))->forward(torch::zeros({2, 5}), {}), ArgumentError);
}

}  // namespace
}  // namespace moekit::nn
