// Routers whose tokens have no fixed number of experts, or that go by more than the token.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>

#include "moekit/core/error.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/expert_choice_router.h"
#include "moekit/nn/routers/gshard_router.h"
#include "moekit/nn/routers/hash_router.h"
#include "moekit/nn/surgery.h"
#include "moekit/tensor/generator.h"

namespace moekit::nn {
namespace {

/// A router whose logits are its tokens.
template <typename Router, typename Options>
Router by_tokens(Options options) {
  Router router(std::move(options));
  const torch::NoGradGuard no_grad;
  router->weight.copy_(torch::eye(router->num_experts()));
  return router;
}

RouterContext in_training(uint64_t seed) {
  RouterContext context;
  context.training = true;
  context.generator = tensor::make_generator(seed);
  return context;
}

std::vector<int64_t> list(const torch::Tensor& x) {
  return {x.data_ptr<int64_t>(), x.data_ptr<int64_t>() + x.numel()};
}

TEST(GshardRouter, TakesTwoOutsideOfTrainingFirstChoicesFirst) {
  auto router = by_tokens<GshardRouter>(GshardRouterOptions(3, 3));
  const auto x = torch::tensor({{2.0F, 0.0F, 1.0F}, {0.0F, 3.0F, -1.0F}});
  const auto routing = router->forward(x, {});
  EXPECT_EQ(list(routing.token), (std::vector<int64_t>{0, 1, 0, 1}));
  EXPECT_EQ(list(routing.expert), (std::vector<int64_t>{0, 1, 2, 0}));
  const double g1 = std::exp(2) / (std::exp(2) + std::exp(1));
  EXPECT_NEAR(routing.weight[0].item<double>(), g1, 1e-6);
  EXPECT_NEAR(routing.weight[2].item<double>(), 1 - g1, 1e-6);
}

TEST(GshardRouter, TakesTheSecondAsOftenAsTwiceItsShare) {
  auto router = by_tokens<GshardRouter>(GshardRouterOptions(2, 2));
  // Shares of the second expert: 1/(1 + e) = 0.269 and, of equal logits, 1/2.
  const int64_t count = 20000;
  const auto unequal = torch::tensor({{1.0F, 0.0F}}).expand({count, 2}).contiguous();
  const auto second = [&](const torch::Tensor& x, bool random) {
    router->options.random_second(random);
    return static_cast<double>(router->forward(x, in_training(3)).num_assignments() - count) /
           count;
  };
  EXPECT_NEAR(second(unequal, true), 2 / (1 + std::exp(1)), 0.02);
  EXPECT_EQ(second(torch::zeros({count, 2}), true), 1);
  EXPECT_EQ(second(unequal, false), 1);
  router->options.random_second(true);
  const auto a = router->forward(unequal, in_training(3));
  EXPECT_EQ(list(a.token), list(router->forward(unequal, in_training(3)).token));
  EXPECT_NE(list(a.token), list(router->forward(unequal, in_training(4)).token));
  // The first one's weight is what it was.
  EXPECT_NEAR(a.weight[0].item<double>(), 1 - 1 / (1 + std::exp(1)), 1e-6);
}

TEST(GshardRouter, LearnsThroughBothWeights) {
  auto router = by_tokens<GshardRouter>(GshardRouterOptions(3, 3));
  const auto x = torch::tensor({{2.0F, 0.0F, 1.0F}});
  router->forward(x, {}).weight.mul(torch::tensor({1.0F, 3.0F})).sum().backward();
  const auto grad = router->weight.grad().abs().sum(1);
  EXPECT_GT(grad[0].item<double>(), 0);
  EXPECT_EQ(grad[1].item<double>(), 0);
  EXPECT_GT(grad[2].item<double>(), 0);
  EXPECT_THROW(GshardRouter(GshardRouterOptions(3, 1)), ArgumentError);
}

TEST(ExpertChoice, EveryExpertTakesAsManyOfItsBestTokens) {
  auto router = by_tokens<ExpertChoiceRouter>(ExpertChoiceRouterOptions(2, 2).experts_per_token(1));
  // Shares of expert 0 fall from token to token, those of expert 1 rise.
  const auto x = torch::tensor({{3.0F, 0.0F}, {2.0F, 0.0F}, {1.0F, 0.0F}, {0.5F, 0.0F}});
  const auto routing = router->forward(x, {});
  EXPECT_EQ(list(routing.expert), (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_EQ(list(routing.token), (std::vector<int64_t>{0, 1, 3, 2}));
  const auto probs = torch::softmax(x, 1);
  EXPECT_NEAR(routing.weight[0].item<double>(), probs[0][0].item<double>(), 1e-6);
  EXPECT_NEAR(routing.weight[3].item<double>(), probs[2][1].item<double>(), 1e-6);
}

TEST(ExpertChoice, ChoosesWithinSequencesOrAmongAll) {
  // All tokens of the first sequence are better for expert 0 than those of the second.
  const auto x = torch::tensor({{5.0F, 0.0F}, {4.0F, 0.0F}, {1.0F, 0.0F}, {0.5F, 0.0F}});
  RouterContext context;
  context.sequence = torch::tensor({0, 0, 1, 1}, torch::kLong);
  const auto of_first = [&](ChoiceGroup group) {
    auto router = by_tokens<ExpertChoiceRouter>(
        ExpertChoiceRouterOptions(2, 2).experts_per_token(1).group(group));
    const auto routing = router->forward(x, context);
    std::vector<int64_t> tokens;
    for (int64_t a = 0; a < routing.num_assignments(); ++a) {
      if (routing.expert[a].item<int64_t>() == 0) {
        tokens.push_back(routing.token[a].item<int64_t>());
      }
    }
    return tokens;
  };
  EXPECT_EQ(of_first(ChoiceGroup::kSequence), (std::vector<int64_t>{0, 2}));
  context.sequence = torch::tensor({1, 1, 0, 0}, torch::kLong);  // in whatever order they come
  EXPECT_EQ(of_first(ChoiceGroup::kSequence), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(of_first(ChoiceGroup::kBatch), (std::vector<int64_t>{0, 1}));
}

TEST(ExpertChoice, AsManyAsThereAreIsEveryExpertForEveryToken) {
  ExpertChoiceRouter router(ExpertChoiceRouterOptions(4, 3).experts_per_token(3));
  const auto routing = router->forward(torch::randn({5, 4}), {});
  EXPECT_EQ(routing.num_assignments(), 15);
  EXPECT_NEAR(routing.weight.sum().item<double>(), 5, 1e-5);
  EXPECT_EQ(router->forward(torch::randn({0, 4}), {}).num_assignments(), 0);
  EXPECT_THROW(ExpertChoiceRouter(ExpertChoiceRouterOptions(4, 3).experts_per_token(3.5)),
               ArgumentError);
}

TEST(ExpertChoice, ALayerTellsItWhereSequencesEnd) {
  const auto router = std::make_shared<ExpertChoiceRouterImpl>(
      ExpertChoiceRouterOptions(4, 2).experts_per_token(1));
  MoE layer(router, std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(4, 8, 2)));
  const auto x = torch::randn({3, 6, 4});
  auto other = x.clone();
  other[2].fill_(9);
  RouterContext context;
  context.mask = torch::ones({3, 6}, torch::kBool);
  context.mask[0][5] = false;
  const auto a = layer->forward_with_routing(x, context).values;
  const auto b = layer->forward_with_routing(other, context).values;
  EXPECT_TRUE(torch::allclose(a.narrow(0, 0, 2), b.narrow(0, 0, 2)));
  EXPECT_EQ(a[0][5].abs().sum().item<double>(), 0);
}

TEST(HashRouter, ATokenHasItsExpertWhereverItStands) {
  HashRouter router(HashRouterOptions(50, 4));
  RouterContext context;
  context.token_id = torch::tensor({7, 3, 7, 49, 3}, torch::kLong);
  const auto routing = router->forward(torch::randn({5, 2}), context);
  EXPECT_EQ(routing.expert[0].item<int64_t>(), routing.expert[2].item<int64_t>());
  EXPECT_EQ(routing.expert[1].item<int64_t>(), routing.expert[4].item<int64_t>());
  EXPECT_TRUE(torch::equal(routing.weight, torch::ones({5})));
  EXPECT_TRUE(router->parameters().empty());
  EXPECT_FALSE(router->traits().learns);
  const auto copy = std::dynamic_pointer_cast<HashRouterImpl>(router->clone());
  EXPECT_TRUE(torch::equal(copy->expert_of_token, router->expert_of_token));
  HashRouter other(HashRouterOptions(50, 4).table_seed(1));
  EXPECT_FALSE(torch::equal(other->expert_of_token, router->expert_of_token));
}

TEST(HashRouter, AnEvenTableGivesEveryExpertAsMany) {
  HashRouter router(HashRouterOptions(50, 4).table(HashTable::kEven));
  const auto load = torch::bincount(router->expert_of_token, {}, 4);
  EXPECT_EQ(load.max().item<int64_t>(), 13);
  EXPECT_EQ(load.min().item<int64_t>(), 12);
}

TEST(HashRouter, RefusesWhatItDoesNotKnow) {
  HashRouter router(HashRouterOptions(5, 2));
  const auto x = torch::randn({2, 3});
  EXPECT_THROW(router->forward(x, {}), ArgumentError);
  RouterContext context;
  context.token_id = torch::tensor({0, 5}, torch::kLong);
  EXPECT_THROW(router->forward(x, context), ArgumentError);
  EXPECT_THROW(check_hash_router({}, LayerSite{{3}, 2, 3}, "model.router"), ArgumentError);
  ExpertEdit edit(torch::tensor({1, 0}, torch::kLong));
  EXPECT_THROW(router->take_experts(edit), ArgumentError);
}

}  // namespace
}  // namespace moekit::nn
