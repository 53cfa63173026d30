#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include "moekit/core/error.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/nn/routers/scored_router.h"
#include "moekit/nn/routers/task_routers.h"

namespace moekit::nn {
namespace {

RouterContext training(uint64_t seed) {
  RouterContext context;
  context.training = true;
  context.generator = at::detail::createCPUGenerator(seed);
  return context;
}

TEST(LinearRouter, IsASoftmaxOfALinearMapOverTemperature) {
  LinearRouter router(LinearRouterOptions(3, 4).temperature(2.0).bias(true));
  const auto x = torch::randn({5, 3});
  const auto want = torch::softmax(torch::linear(x, router->weight, router->bias) / 2, 1);
  EXPECT_TRUE(torch::allclose(router->forward(x, {}).probs, want));
}

TEST(LinearRouter, ZeroInitGivesUniformProbabilities) {
  LinearRouter router(LinearRouterOptions(3, 4).init(RouterInit::kZero));
  EXPECT_TRUE(
      torch::allclose(router->forward(torch::randn({2, 3}), {}).probs, torch::full({2, 4}, 0.25)));
}

TEST(LinearRouter, ItsNoiseHasTheSizeItIsGiven) {
  const auto x = torch::randn({4000, 3});
  LinearRouter uniform(LinearRouterOptions(3, 4).noise(RouterNoise::kUniform).noise_scale(2));
  auto routing = uniform->forward(x, training(1));
  const auto drawn = routing.logits - routing.clean_logits;
  EXPECT_GE(drawn.min().item<double>(), -1e-5);
  EXPECT_LT(drawn.min().item<double>(), 0.01);
  EXPECT_LE(drawn.max().item<double>(), 2 + 1e-5);
  EXPECT_GT(drawn.max().item<double>(), 1.99);
  LinearRouter gaussian(LinearRouterOptions(3, 4).noise(RouterNoise::kGaussian));
  routing = gaussian->forward(x, training(1));
  const auto standard = (routing.logits - routing.clean_logits) / routing.noise_std;
  EXPECT_NEAR(standard.std().item<double>(), 1, 0.02);
  EXPECT_NEAR(standard.mean().item<double>(), 0, 0.03);
}

TEST(LinearRouter, AddsNoiseInTrainingOnlyFromTheGeneratorHandedIn) {
  for (const auto noise : {RouterNoise::kGaussian, RouterNoise::kUniform}) {
    LinearRouter router(LinearRouterOptions(3, 4).noise(noise).top_k(2));
    const auto x = torch::randn({6, 3});
    const auto clean = router->forward(x, {}).logits;
    const auto a = router->forward(x, training(1));
    const auto b = router->forward(x, training(1));
    const auto c = router->forward(x, training(2));
    EXPECT_TRUE(torch::equal(a.logits, b.logits));
    EXPECT_FALSE(torch::equal(a.logits, c.logits));
    EXPECT_FALSE(torch::equal(a.logits, clean));
    EXPECT_TRUE(torch::equal(a.clean_logits, clean));
    EXPECT_EQ(a.noise_std.defined(), noise == RouterNoise::kGaussian);
  }
}

TEST(LinearRouter, DividesWeightsByTheirNorm) {
  const auto x = torch::randn({5, 3});
  for (const double p : {1.0, 2.0, 3.0}) {
    LinearRouter router(
        LinearRouterOptions(3, 4).top_k(2).combine_weights(CombineWeights::kProbs).weight_norm(p));
    const auto routing = router->forward(x, {});
    EXPECT_TRUE(torch::allclose(routing.weight.view({5, 2}).pow(p).sum(1), torch::ones({5})));
    const auto probs = routing.probs.gather(1, routing.expert_index);
    EXPECT_TRUE(torch::allclose(routing.weight.view({5, 2}) / probs,
                                (1 / probs.norm(p, {1}, true)).expand({5, 2}), 1e-4));
    routing.weight.select(0, 0).backward();
    EXPECT_GT(router->weight.grad().abs().sum().item<double>(), 0);
  }
  EXPECT_FALSE(
      LinearRouter(
          LinearRouterOptions(3, 4).top_k(1).combine_weights(CombineWeights::kProbs).weight_norm(2))
          ->traits()
          .no_weight_gradient.empty());
  EXPECT_THROW(LinearRouter(LinearRouterOptions(3, 4).top_k(2).weight_norm(1)), ArgumentError);
}

TEST(LinearRouter, AddsTheLogitsOfTheMixtureBefore) {
  LinearRouter router(LinearRouterOptions(3, 4).residual(true).previous_experts(5));
  const auto x = torch::randn({6, 3});
  RouterContext context;
  context.previous_logits = torch::randn({6, 5}).requires_grad_();
  const auto want = torch::linear(x, router->weight, router->bias) +
                    torch::linear(context.previous_logits, router->residual_weight);
  const auto routing = router->forward(x, context);
  EXPECT_TRUE(torch::allclose(routing.logits, want));
  (routing.probs * torch::randn({6, 4})).sum().backward();
  EXPECT_GT(context.previous_logits.grad().abs().sum().item<double>(), 0);
  EXPECT_GT(router->residual_weight.grad().abs().sum().item<double>(), 0);
  EXPECT_THROW(router->forward(x, {}), ArgumentError);
  context.previous_logits = torch::randn({6, 4});
  EXPECT_THROW(router->forward(x, context), ArgumentError);
  LinearRouter first(LinearRouterOptions(3, 4).residual(true));  // of a model's first mixture
  EXPECT_EQ(first->parameters().size(), 2U);
  EXPECT_THROW(check_linear_router({{}, LinearRouterOptions().residual(true)}, LayerSite{{3}, 4, 3},
                                   "model.router"),
               ArgumentError);
}

TEST(LinearRouter, RunsATrunkAndKeepsACopyOfIt) {
  torch::nn::Linear trunk(5, 3);
  LinearRouter router(LinearRouterOptions(3, 2).bias(false), torch::nn::AnyModule(trunk));
  const auto x = torch::randn({4, 5});
  const auto want = torch::linear(trunk->forward(x), router->weight);
  EXPECT_TRUE(torch::allclose(router->forward(x, {}).logits, want));
  {
    const torch::NoGradGuard no_grad;
    trunk->weight.zero_();
  }
  EXPECT_TRUE(torch::allclose(router->forward(x, {}).logits, want));
  const auto copy = std::dynamic_pointer_cast<LinearRouterImpl>(router->clone());
  EXPECT_TRUE(torch::allclose(copy->forward(x, {}).logits, want));
  EXPECT_EQ(copy->named_parameters().size(), 3U);
}

TEST(LinearRouter, RefusesImpossibleOptions) {
  EXPECT_THROW(LinearRouter(LinearRouterOptions(3, 4).top_k(5)), ArgumentError);
  EXPECT_THROW(LinearRouter(LinearRouterOptions(3, 0)), ArgumentError);
  EXPECT_THROW(LinearRouter(LinearRouterOptions(3, 4).temperature(0)), ArgumentError);
  EXPECT_THROW(LinearRouter(LinearRouterOptions(3, 4).noise(RouterNoise::kUniform).noise_scale(0)),
               ArgumentError);
  EXPECT_NO_THROW(LinearRouter(LinearRouterOptions(3, 4).noise_scale(0)));
  LinearRouter router(LinearRouterOptions(3, 4));
  EXPECT_THROW(router->forward(torch::zeros({2, 5}), {}), ArgumentError);
}

TEST(Trunk, IsCheckedAgainstTheLayersInput) {
  LayerSite images;
  images.input = {1, 8, 12};
  const auto refusal = [](const TrunkOptions& options, const LayerSite& site) {
    try {
      check_trunk(options, site, "router");
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  TrunkOptions sums;
  sums.input = RouterInput::kPatchSum;
  for (const int64_t side : {0, 1, 2, 4}) {
    sums.patch_size = side;
    EXPECT_EQ(refusal(sums, images), "") << side;
  }
  for (const int64_t side : {-1, 3, 5, 8}) {  // 3 divides the width alone, 8 the height alone
    sums.patch_size = side;
    EXPECT_NE(refusal(sums, images).find("router.patch_size must divide 8x12"), std::string::npos)
        << side;
  }
  LayerSite vectors;
  vectors.input = {8};
  EXPECT_EQ(refusal({}, vectors), "");
  sums.patch_size = 0;
  EXPECT_NE(refusal(sums, vectors).find("router.input"), std::string::npos);
  TrunkOptions net;
  net.trunk.hidden = {4};
  EXPECT_NE(refusal(net, vectors).find("router.trunk"), std::string::npos);
  net.input = RouterInput::kPatchSum;
  EXPECT_NE(refusal(net, images).find("patch_sum"), std::string::npos);
  TrunkOptions no_relu;
  no_relu.trunk_relu = false;
  EXPECT_NE(refusal(no_relu, images).find("trunk_relu"), std::string::npos);
}

TEST(AttentiveRouter, ScoresByScaledDotProductOfQueryAndKeys) {
  torch::manual_seed(1);
  AttentiveRouter router(AttentiveRouterOptions(4, 3));
  const auto u = torch::randn({5, 4});
  RouterContext context;
  context.expert_features = torch::randn({3, 5, 4});
  const auto logits = router->forward(u, context).logits;
  for (int64_t n = 0; n < 5; ++n) {
    for (int64_t e = 0; e < 3; ++e) {
      const auto query = u[n].matmul(router->query_weight);
      const auto key = context.expert_features[e][n].matmul(router->key_weight);
      EXPECT_NEAR(logits[n][e].item<double>(), query.dot(key).item<double>() / 2, 1e-5);
    }
  }
}

TEST(AttentiveRouter, SendsGradientIntoBothWeightsTheTrunkAndTheExperts) {
  AttentiveRouter router(AttentiveRouterOptions(4, 3),
                         torch::nn::AnyModule(torch::nn::Linear(6, 4)));
  RouterContext context;
  context.expert_features = torch::randn({3, 5, 4}).requires_grad_();
  router->forward(torch::randn({5, 6}), context).probs.square().sum().backward();
  for (const auto& item : router->named_parameters()) {
    EXPECT_GT(item.value().grad().abs().sum().item<float>(), 0) << item.key();
  }
  EXPECT_GT(context.expert_features.grad().abs().sum().item<float>(), 0);
}

TEST(AttentiveRouter, RefusesMissingOrMisshapenFeatures) {
  AttentiveRouter router(AttentiveRouterOptions(4, 3));
  EXPECT_TRUE(router->needs_expert_features());
  EXPECT_THROW(router->forward(torch::zeros({5, 4}), {}), ArgumentError);
  RouterContext context;
  for (const auto& sizes :
       std::vector<std::vector<int64_t>>{{3, 5, 6}, {3, 1, 4}, {1, 5, 4}, {3, 6, 4}, {15, 4}}) {
    context.expert_features = torch::zeros(sizes);
    EXPECT_THROW(router->forward(torch::zeros({5, 4}), context), ArgumentError) << sizes;
  }
}

TEST(OracleRouter, SendsEveryTaskToItsGroup) {
  OracleRouter router(OracleRouterOptions({{0, 2}, {1}}));
  RouterContext context;
  context.task_id = torch::tensor({2, 1, 0}, torch::kLong);
  const auto routing = router->forward(torch::zeros({3, 1}), context);
  EXPECT_TRUE(
      torch::equal(routing.probs, torch::tensor({{1.0F, 0.0F}, {0.0F, 1.0F}, {1.0F, 0.0F}})));
  context.task_id = torch::tensor({2, 1, 7}, torch::kLong);
  EXPECT_THROW(router->forward(torch::zeros({3, 1}), context), ArgumentError);
  EXPECT_THROW(OracleRouter(OracleRouterOptions({{0}, {0}})), ArgumentError);
}

TEST(TaskRouters, TheActiveOneAloneRoutesAndIsSpokenOf) {
  const auto make = [] {
    return std::make_shared<LinearRouterImpl>(LinearRouterOptions(3, 4).top_k(2));
  };
  TaskRouters routers(std::vector<std::shared_ptr<RouterImpl>>{make(), make()});
  routers->reset_parameters(at::detail::createCPUGenerator(1));
  const auto x = torch::randn({5, 3});
  for (int64_t task = 0; task < 2; ++task) {
    routers->set_active(task);
    auto& own = *routers->routers[static_cast<size_t>(task)];
    EXPECT_TRUE(routers->forward(x, {}).logits.equal(own.forward(x, {}).logits));
    EXPECT_TRUE(routers->expert_rows()[0].is_same(own.expert_rows()[0]));
    EXPECT_EQ(routers->traits().top_k, 2);
  }
  routers->set_active(0);
  const auto first = routers->forward(x, {}).logits;
  routers->set_active(1);
  EXPECT_FALSE(routers->forward(x, {}).logits.equal(first));
  const auto copy = std::dynamic_pointer_cast<TaskRoutersImpl>(routers->clone());
  EXPECT_EQ(copy->active_task(), 1);
  EXPECT_FALSE(copy->routers[0]->parameters()[0].is_same(routers->routers[0]->parameters()[0]));
  copy->set_active(0);
  EXPECT_TRUE(copy->forward(x, {}).logits.equal(first));
}

TEST(TaskRouters, TheActiveOneCountsAndSteersItsLoad) {
  const auto make = [] {
    return std::make_shared<ScoredRouterImpl>(
        ScoredRouterOptions(3, 4).top_k(1).normalize(false).bias_rate(0.1));
  };
  TaskRouters routers(std::vector<std::shared_ptr<RouterImpl>>{make(), make()});
  const auto correction = [&](size_t task) {
    return dynamic_cast<ScoredRouterImpl&>(*routers->routers[task]).correction;
  };
  routers->set_active(1);
  routers->forward(torch::randn({5, 3}), training(1));
  routers->end_step({});
  EXPECT_EQ(correction(0).abs().sum().item<double>(), 0);
  EXPECT_GT(correction(1).abs().sum().item<double>(), 0);
}

TEST(TaskRouters, GiveUpExpertsTogether) {
  const auto make = [] { return std::make_shared<LinearRouterImpl>(LinearRouterOptions(3, 4)); };
  TaskRouters routers(std::vector<std::shared_ptr<RouterImpl>>{make(), make()});
  ExpertEdit edit(torch::tensor({3, 1}, torch::kLong));
  routers->take_experts(edit);
  edit.commit();
  for (const auto& router : routers->routers) EXPECT_EQ(router->num_experts(), 2);
}

TEST(TaskRouters, RefusesNoneAndUnlikeOnes) {
  using List = std::vector<std::shared_ptr<RouterImpl>>;
  EXPECT_THROW(TaskRouters(List{}), ArgumentError);
  EXPECT_THROW(TaskRouters(List{std::make_shared<LinearRouterImpl>(LinearRouterOptions(3, 5)),
                                std::make_shared<LinearRouterImpl>(LinearRouterOptions(3, 4))}),
               ArgumentError);
  TaskRouters one(List{std::make_shared<LinearRouterImpl>(LinearRouterOptions(3, 5))});
  EXPECT_THROW(one->set_active(1), ArgumentError);
}

TEST(TaskRouters, OneOfAnEarlierTaskKnowsTheFirstExpertsAlone) {
  torch::manual_seed(5);
  TaskRouters routers(std::vector<std::shared_ptr<RouterImpl>>{
      std::make_shared<LinearRouterImpl>(LinearRouterOptions(3, 4).top_k(2)),
      std::make_shared<LinearRouterImpl>(LinearRouterOptions(3, 6).top_k(2))});
  const auto tokens = torch::randn({7, 3});
  const auto alone = routers->forward(tokens, {});
  EXPECT_EQ(routers->num_experts(), 4);
  routers->set_pool(6);
  EXPECT_EQ(routers->num_experts(), 6);
  const auto routing = routers->forward(tokens, {});
  EXPECT_EQ(routing.num_experts(), 6);
  EXPECT_TRUE(torch::equal(routing.expert, alone.expert));
  EXPECT_TRUE(torch::equal(routing.weight, alone.weight));
  EXPECT_TRUE(torch::equal(routing.probs.slice(1, 0, 4), alone.probs));
  EXPECT_EQ(routing.probs.slice(1, 4).abs().sum().item<double>(), 0);
  EXPECT_TRUE(torch::isinf(routing.logits.slice(1, 4)).all().item<bool>());
  routers->set_active(1);
  EXPECT_GT(routers->forward(tokens, {}).probs.slice(1, 4).sum().item<double>(), 0);
  routers->set_pool(4);  // fewer than the active one knows
  EXPECT_THROW(routers->forward(tokens, {}), ArgumentError);
  ExpertEdit edit(torch::tensor({0, 1}, torch::kLong));
  EXPECT_THROW(routers->take_experts(edit), ArgumentError);
}

}  // namespace
}  // namespace moekit::nn
