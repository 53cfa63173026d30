#include "moekit/nn/routers/scored_router.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

/// A router whose logits are its tokens.
ScoredRouter scored(ScoredRouterOptions options) {
  ScoredRouter router(std::move(options));
  const torch::NoGradGuard no_grad;
  router->weight.copy_(torch::eye(router->options.num_experts()));
  return router;
}

RouterContext training() {
  RouterContext context;
  context.training = true;
  return context;
}

double at(const torch::Tensor& x, int64_t i) { return x.flatten()[i].item<double>(); }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST(ScoredRouter, WeightsAreScoresOverTheSumOfTheChosen) {
  const auto x = torch::tensor({{0.5F, 2.0F, -1.0F}});
  const double a = sigmoid(2);
  const double b = sigmoid(0.5);
  const auto routing = scored(ScoredRouterOptions(3, 3).weight_scale(2.5))->forward(x, {});
  EXPECT_TRUE(torch::equal(routing.expert_index, torch::tensor({{1, 0}}, torch::kLong)));
  EXPECT_NEAR(at(routing.weight, 0), 2.5 * a / (a + b), 1e-6);
  EXPECT_NEAR(at(routing.weight, 1), 2.5 * b / (a + b), 1e-6);
  EXPECT_NEAR(at(routing.probs, 0), b / (a + b + sigmoid(-1)), 1e-6);
  auto raw = scored(ScoredRouterOptions(3, 3).normalize(false))->forward(x, {});
  EXPECT_NEAR(at(raw.weight, 0), a, 1e-6);
  auto root = scored(ScoredRouterOptions(3, 3).normalize(false).score(RouterScore::kSqrtSoftplus));
  EXPECT_NEAR(at(root->forward(x, {}).weight, 0), std::sqrt(std::log1p(std::exp(2.0))), 1e-6);
  auto soft = scored(ScoredRouterOptions(3, 3).normalize(false).score(RouterScore::kSoftmax));
  EXPECT_NEAR(at(soft->forward(x, {}).weight, 0), at(torch::softmax(x, 1), 1), 1e-6);
}

TEST(ScoredRouter, TheCorrectionChoosesAndDoesNotWeigh) {
  auto router = scored(ScoredRouterOptions(3, 3).top_k(1).normalize(false).bias_rate(0.1));
  const auto x = torch::tensor({{0.5F, 2.0F, -1.0F}});
  {
    const torch::NoGradGuard no_grad;
    router->correction[2] = 1;
  }
  const auto routing = router->forward(x, {});
  EXPECT_EQ(at(routing.expert, 0), 2);
  EXPECT_NEAR(at(routing.weight, 0), sigmoid(-1), 1e-6);
}

TEST(ScoredRouter, TheCorrectionFollowsTheLoadOfAllPartsOfAStep) {
  auto router = scored(ScoredRouterOptions(3, 3).top_k(1).normalize(false).bias_rate(0.01));
  const auto to = [](int64_t expert, int64_t count) {
    auto x = torch::zeros({count, 3});
    x.select(1, expert).fill_(3);
    return x;
  };
  router->forward(to(0, 2), training());
  router->forward(to(1, 1), training());
  {
    const torch::NoGradGuard no_grad;  // the pass before
    router->forward(to(2, 50), training());
  }
  router->forward(to(2, 50), {});  // no training
  router->end_step({});            // loads 2, 1, 0 of a mean of 1
  EXPECT_TRUE(torch::allclose(router->correction, torch::tensor({-0.01F, 0.0F, 0.01F})));
  router->end_step({});  // nothing was counted since
  EXPECT_TRUE(torch::allclose(router->correction, torch::tensor({-0.01F, 0.0F, 0.01F})));
}

TEST(ScoredRouter, EvensTheLoadWithoutALoss) {
  torch::manual_seed(1);
  ScoredRouter router(ScoredRouterOptions(8, 6).top_k(2).bias_rate(0.01));
  const auto x = torch::randn({400, 8}) + 1;  // of one side: some experts get most
  const auto violation = [&] {
    const auto load = torch::bincount(router->forward(x, {}).expert, {}, 6).to(torch::kFloat64);
    return at(load.max() / load.mean(), 0) - 1;
  };
  const double before = violation();
  for (int step = 0; step < 300; ++step) {
    router->forward(x, training());
    router->end_step({});
  }
  EXPECT_GT(before, 0.4);
  EXPECT_LT(violation(), 0.1);
}

TEST(ScoredRouter, TakesExpertsOfTheBestGroups) {
  // Groups {0, 1}, {2, 3}, {4, 5}; by the largest score group 0 is best, by the two largest
  // group 1.
  const auto x = torch::tensor({{4.0F, -9.0F, 1.5F, 1.4F, 1.3F, -1.0F}});
  const auto chosen = [&](GroupScore score, int64_t kept) {
    auto router = scored(
        ScoredRouterOptions(6, 6).num_groups(3).kept_groups(kept).group_score(score).top_k(2));
    return router->forward(x, {}).expert_index;
  };
  EXPECT_TRUE(torch::equal(chosen(GroupScore::kLargest, 1), torch::tensor({{0, 1}}, torch::kLong)));
  EXPECT_TRUE(torch::equal(chosen(GroupScore::kTopTwo, 1), torch::tensor({{2, 3}}, torch::kLong)));
  EXPECT_TRUE(torch::equal(chosen(GroupScore::kTopTwo, 2), torch::tensor({{2, 3}}, torch::kLong)));
  EXPECT_TRUE(torch::equal(chosen(GroupScore::kLargest, 3), torch::tensor({{0, 2}}, torch::kLong)));
}

TEST(ScoredRouter, ExpertsOfGroupsThatAreOutLoseToNegativeScores) {
  auto router =
      scored(ScoredRouterOptions(4, 4).num_groups(2).kept_groups(1).top_k(2).bias_rate(0.1));
  {
    const torch::NoGradGuard no_grad;
    router->correction.copy_(torch::tensor({-2.0F, -2.0F, -3.0F, -3.0F}));
  }
  const auto routing = router->forward(torch::zeros({1, 4}), {});
  EXPECT_TRUE(torch::equal(routing.expert_index, torch::tensor({{0, 1}}, torch::kLong)));
}

TEST(ScoredRouter, GradientFlowsThroughTheChosenScoresAlone) {
  auto router = scored(ScoredRouterOptions(3, 3).normalize(false).bias_rate(0.1));
  const auto x = torch::tensor({{0.5F, 2.0F, -1.0F}});
  router->forward(x, training()).weight.sum().backward();
  const auto grad = router->weight.grad().abs().sum(1);
  EXPECT_GT(at(grad, 0), 0);
  EXPECT_GT(at(grad, 1), 0);
  EXPECT_EQ(at(grad, 2), 0);
  EXPECT_FALSE(router->correction.requires_grad());
}

TEST(ScoredRouter, RefusesWhatIsImpossibleOrHasNoEffect) {
  using O = ScoredRouterOptions;
  EXPECT_THROW(ScoredRouter(O(3, 4).top_k(5)), ArgumentError);
  EXPECT_THROW(ScoredRouter(O(3, 4).num_groups(3)), ArgumentError);
  EXPECT_THROW(ScoredRouter(O(3, 4).num_groups(2).kept_groups(3)), ArgumentError);
  EXPECT_THROW(ScoredRouter(O(3, 8).num_groups(4).kept_groups(1).top_k(3)), ArgumentError);
  EXPECT_THROW(ScoredRouter(O(3, 4).num_groups(4).kept_groups(2).top_k(2)), ArgumentError);
  EXPECT_THROW(ScoredRouter(O(3, 4).group_score(GroupScore::kLargest)), ArgumentError);
  EXPECT_FALSE(ScoredRouter(O(3, 4).top_k(1))->traits().no_weight_gradient.empty());
  EXPECT_TRUE(ScoredRouter(O(3, 4).top_k(1).normalize(false))->traits().no_weight_gradient.empty());
}

}  // namespace
}  // namespace moekit::nn
