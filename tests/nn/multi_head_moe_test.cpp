#include "moekit/nn/multi_head_moe.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>

#include "moekit/core/error.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/nn/surgery.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

MoE small_mixture(int64_t size, int64_t units, int64_t experts, int64_t top_k) {
  MoE moe(std::make_shared<LinearRouterImpl>(LinearRouterOptions(size, experts)
                                                 .top_k(top_k)
                                                 .bias(false)
                                                 .combine_weights(CombineWeights::kProbs)),
          std::make_shared<MlpExpertsImpl>(
              MlpExpertsOptions(size, units, experts).activation(Activation::kSwiglu).bias(false)));
  return moe;
}

TEST(MultiHeadMoE, RoutesConsecutivePartsOfAMappedToken) {
  torch::manual_seed(1);
  MultiHeadMoE layer(6, MultiHeadOptions().token_heads(3).head_layer(true).merge_layer(true),
                     small_mixture(2, 5, 4, 2));
  const auto x = torch::randn({2, 4, 6});
  const auto output = layer->forward_with_routing(x);
  EXPECT_EQ(output.routing.num_tokens(), 24);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t t = 0; t < 4; ++t) {
      const auto mixed = layer->head(x[b][t]);
      std::vector<torch::Tensor> parts;
      for (int64_t h = 0; h < 3; ++h) {
        parts.push_back(layer->moe->forward(mixed.narrow(0, 2 * h, 2).unsqueeze(0))[0]);
      }
      const auto want = layer->merge(torch::cat(parts));
      EXPECT_TRUE(torch::allclose(output.values[b][t], want, 1e-4, 1e-6));
    }
  }
}

TEST(MultiHeadMoE, OnePartBetweenIdentitiesIsTheMixtureBitForBit) {
  torch::manual_seed(2);
  auto moe = small_mixture(6, 5, 4, 2);
  MultiHeadMoE layer(6, MultiHeadOptions().head_layer(true).merge_layer(true), moe);
  {
    const torch::NoGradGuard no_grad;
    for (auto* map : {&layer->head, &layer->merge}) {
      (*map)->weight.copy_(torch::eye(6));
      (*map)->bias.zero_();
    }
  }
  const auto x = torch::randn({3, 5, 6});
  EXPECT_TRUE(torch::equal(layer->forward_with_routing(x).values, moe->forward(x)));
}

TEST(MultiHeadMoE, MaskAndSequencesAreOfWholeTokens) {
  torch::manual_seed(3);
  MultiHeadMoE layer(6, MultiHeadOptions().token_heads(2).merge_layer(true),
                     small_mixture(3, 5, 4, 1));
  const auto x = torch::randn({2, 3, 6});
  RouterContext context;
  context.mask = torch::tensor({{true, false, true}, {true, true, false}});
  const auto output = layer->forward_with_routing(x, context);
  EXPECT_EQ(output.routing.num_tokens(), 8);
  EXPECT_TRUE(
      torch::equal(output.routing.sequence, torch::tensor({0, 0, 0, 0, 1, 1, 1, 1}, torch::kLong)));
  EXPECT_TRUE(torch::allclose(output.values[0][1], layer->merge->bias));
  const auto alone = layer->forward_with_routing(x[0][2].unsqueeze(0)).values[0];
  EXPECT_TRUE(torch::allclose(output.values[0][2], alone, 1e-4, 1e-6));
}

TEST(MultiHeadMoE, EveryParameterLearnsAndExpertsWithoutRowsGetZeros) {
  torch::manual_seed(4);
  MultiHeadMoE layer(4, MultiHeadOptions().token_heads(2).head_layer(true).merge_layer(true),
                     small_mixture(2, 3, 40, 2),
                     std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(4, 6, 1)));
  const auto output = layer->forward_with_routing(torch::randn({3, 4}));
  (output.values * torch::randn({3, 4})).sum().backward();
  for (const auto& item : layer->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().sum().item<double>(), 0) << item.key();
  }
  const auto load = torch::bincount(output.routing.expert, {}, 40);
  const auto& experts = dynamic_cast<MlpExpertsImpl&>(*layer->moe->experts);
  const auto gradient = experts.up_proj.grad().flatten(1).abs().sum(1);
  EXPECT_TRUE(torch::equal(gradient.gt(0), load.gt(0)));
}

TEST(MultiHeadMoE, DrawsItsMapsAsReleased) {
  MultiHeadMoE layer(64, MultiHeadOptions().head_layer(true).merge_layer(true),
                     small_mixture(64, 5, 4, 2));
  layer->reset_parameters(tensor::make_generator(1));
  const double bound = std::sqrt(6.0 / 128);
  EXPECT_NEAR(layer->head->weight.max().item<double>(), bound / std::sqrt(2.0), 0.002);
  EXPECT_NEAR(layer->merge->weight.max().item<double>(), bound, 0.002);
  EXPECT_NEAR(layer->head->bias.max().item<double>(), 1.0 / 8, 0.01);
  EXPECT_EQ(layer->merge->bias.abs().sum().item<double>(), 0);
}

TEST(MultiHeadMoE, ACloneSharesNothingAndItsMixtureIsFound) {
  const torch::NoGradGuard no_grad;
  MultiHeadMoE layer(4, MultiHeadOptions().token_heads(2).head_layer(true),
                     small_mixture(2, 3, 4, 2));
  const auto x = torch::randn({3, 4});
  const auto before = layer->forward_with_routing(x).values;
  auto copy = std::dynamic_pointer_cast<MultiHeadMoEImpl>(layer->clone());
  EXPECT_TRUE(torch::equal(copy->forward_with_routing(x).values, before));
  for (auto& parameter : copy->parameters()) parameter.zero_();
  EXPECT_TRUE(torch::equal(layer->forward_with_routing(x).values, before));
  EXPECT_EQ(copy->forward_with_routing(x).values.abs().sum().item<double>(), 0);
  ASSERT_EQ(routed_layers(*layer).size(), 1U);
  take_experts(routed_layers(*layer)[0], {0, 2, 3});
  EXPECT_EQ(layer->forward_with_routing(x).routing.num_experts(), 3);
}

TEST(EqualCost, GivesThePapersSizes) {
  // arXiv:2411.16205: two matrices, d_moe = 4 d, k = 1, h = 3: d_mh = 3 d, E = 4 E_0 - 1.
  const auto plain = equal_cost({10, 40, 8, 1, 2}, 3, 1);
  EXPECT_NEAR(plain.intermediate_size, 30, 1e-9);
  EXPECT_NEAR(plain.num_experts, 4 * 8 - 1, 1e-9);
  EXPECT_NEAR(equal_cost({768, 2048, 8, 1, 3}, 2, 2).intermediate_size, 768, 1e-9);
  EXPECT_NEAR(equal_cost({768, 2048, 8, 1, 3}, 3, 3).intermediate_size, 512, 1e-9);
  EXPECT_NEAR(equal_cost({768, 2048, 8, 1, 3}, 2, 2).num_experts, 41.333, 1e-3);
  EXPECT_NEAR(equal_cost({768, 2048, 8, 1, 3}, 3, 3).num_experts, 93, 1e-9);
  try {
    equal_cost({768, 512, 8, 1, 3}, 2, 2);
    ADD_FAILURE() << "taken";
  } catch (const ArgumentError& error) {
    EXPECT_NE(std::string(error.what()).find("(k_0 d_moe - 2 d / m) / k"), std::string::npos);
  }
}

TEST(EqualCost, IsWhatIsCounted) {
  // d = 96, 8 experts of 256 units, one a token: d_mh = 96 with two of 40 a part, 64 with three.
  const torch::NoGradGuard no_grad;
  const auto x = torch::randn({64, 96});
  const auto experts_and_maps = [&](auto&& run) {
    const tensor::OperationCounter counter;
    run();
    double sum = 0;
    for (const auto& [name, count] : counter.parts()) sum += name == "router" ? 0 : count;
    return sum;
  };
  auto reference = small_mixture(96, 256, 8, 1);
  const double want = experts_and_maps([&] { reference->forward(x); });
  for (const auto& [heads, units] : {std::pair<int64_t, int64_t>{2, 96}, {3, 64}}) {
    MultiHeadMoE layer(96, MultiHeadOptions().token_heads(heads).head_layer(true).merge_layer(true),
                       small_mixture(96 / heads, units, heads == 2 ? 40 : 96, heads));
    EXPECT_EQ(experts_and_maps([&] { layer->forward_with_routing(x); }), want) << heads;
    EXPECT_NEAR(equal_cost({96, 256, 8, 1, 3}, heads, heads).intermediate_size,
                static_cast<double>(units), 1e-9);
  }
}

TEST(MultiHeadMoE, RefusesSizesThatDoNotFit) {
  EXPECT_THROW(MultiHeadMoE(7, MultiHeadOptions().token_heads(2), small_mixture(3, 4, 4, 1)),
               ArgumentError);
  EXPECT_THROW(MultiHeadMoE(6, MultiHeadOptions().token_heads(2), small_mixture(2, 4, 4, 1)),
               ArgumentError);
  MultiHeadMoE layer(6, MultiHeadOptions().token_heads(2), small_mixture(3, 4, 4, 1));
  EXPECT_THROW(layer->forward_with_routing(torch::zeros({2, 5})), ArgumentError);
}

TEST(MultiHeadMoE, WhatIsSaidOfATokenIsSaidOfItsParts) {
  torch::manual_seed(6);
  MultiHeadMoE layer(6, MultiHeadOptions().token_heads(2),
                     MoE(std::make_shared<OracleRouterImpl>(OracleRouterOptions({{0}, {1}, {2}})),
                         std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(3, 4, 3))));
  const auto x = torch::randn({2, 3, 6});
  RouterContext context;
  context.task_id = torch::tensor({{0, 2, 1}, {1, 1, 0}}, torch::kLong);
  const auto want = torch::tensor({0, 0, 2, 2, 1, 1, 1, 1, 1, 1, 0, 0}, torch::kLong);
  const auto output = layer->forward_with_routing(x, context);
  EXPECT_TRUE(torch::equal(top1_expert(output.routing), want));
  EXPECT_TRUE(torch::equal(output.tokens, x.view({12, 3})));
  context.task_id = context.task_id.flatten();
  const auto flat = layer->forward_with_routing(x.flatten(0, 1), context);
  EXPECT_TRUE(torch::equal(top1_expert(flat.routing), want));
  EXPECT_TRUE(torch::equal(flat.values, output.values.flatten(0, 1)));
  EXPECT_TRUE(context.task_id.sizes() == torch::IntArrayRef({6}));
}

TEST(MultiHeadMoE, AddsItsSharedExpertsToWholeTokens) {
  torch::manual_seed(7);
  const auto shared = std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 5, 3));
  auto moe = small_mixture(3, 4, 5, 2);
  MultiHeadMoE with(6, MultiHeadOptions().token_heads(2), moe, shared);
  MultiHeadMoE without(6, MultiHeadOptions().token_heads(2), moe);
  const auto x = torch::randn({2, 4, 6});
  const auto all = shared->forward_all(x.view({8, 6})).values;
  EXPECT_TRUE(torch::allclose(
      with->forward_with_routing(x).values,
      without->forward_with_routing(x).values + (all[0] + all[1] + all[2]).view({2, 4, 6}), 1e-5,
      1e-5));
  auto copy = std::dynamic_pointer_cast<MultiHeadMoEImpl>(with->clone());
  EXPECT_TRUE(
      torch::equal(copy->forward_with_routing(x).values, with->forward_with_routing(x).values));
  EXPECT_FALSE(copy->shared_experts->parameters()[0].is_same(shared->parameters()[0]));
  EXPECT_EQ(copy->named_parameters().keys(), with->named_parameters().keys());
}

TEST(MultiHeadMoE, DrawsMapsAndSharedExpertsFromTheGenerator) {
  MultiHeadMoE layer(8, MultiHeadOptions().head_layer(true).merge_layer(true),
                     small_mixture(8, 5, 4, 2),
                     std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(8, 5, 1)));
  const auto drawn = [&](uint64_t seed) {
    const torch::NoGradGuard no_grad;
    for (auto& parameter : layer->parameters()) parameter.fill_(9);
    layer->reset_parameters(tensor::make_generator(seed));
    std::map<std::string, torch::Tensor> out;
    for (const auto& item : layer->named_parameters()) out[item.key()] = item.value().clone();
    return out;
  };
  const auto a = drawn(1), again = drawn(1), b = drawn(2);
  for (const auto& [name, tensor] : a) {
    EXPECT_TRUE(torch::equal(tensor, again.at(name))) << name;
    const bool of_mixture = name.rfind("moe.", 0) == 0;
    EXPECT_EQ(tensor.eq(9).all().item<bool>(), of_mixture) << name;  // its owner draws those
    const bool fixed = of_mixture || tensor.abs().max().item<double>() == 0;
    EXPECT_EQ(torch::equal(tensor, b.at(name)), fixed) << name;
  }
  EXPECT_LT(a.at("head.weight").min().item<double>(), 0);
  EXPECT_LT(a.at("merge.weight").min().item<double>(), 0);
}

TEST(MultiHeadMoE, CountsItsMapsAndSharedExperts) {
  MultiHeadMoE layer(6, MultiHeadOptions().token_heads(2).head_layer(true).merge_layer(true),
                     small_mixture(3, 5, 4, 2),
                     std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 7, 1)));
  const tensor::OperationCounter counter;
  layer->forward_with_routing(torch::randn({9, 6}));
  const std::vector<std::pair<std::string, double>> want{
      {"head", 2.0 * 9 * 36},  {"router", 2.0 * 18 * 12}, {"experts", 2.0 * 18 * 2 * 45},
      {"merge", 2.0 * 9 * 36}, {"shared", 2.0 * 9 * 84},
  };
  EXPECT_EQ(counter.parts(), want);
}

TEST(MultiHeadMoE, TakesTokensInTheTypeOfItsMaps) {
  MultiHeadMoE layer(6, MultiHeadOptions().token_heads(2).head_layer(true).merge_layer(true),
                     small_mixture(3, 5, 4, 2),
                     std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 7, 1)));
  const auto x = torch::randn({4, 6});
  const auto want = layer->forward_with_routing(x).values;
  const auto got = layer->forward_with_routing(x.to(torch::kFloat64)).values;
  EXPECT_TRUE(torch::allclose(got.to(torch::kFloat), want, 1e-5, 1e-6));
  layer->shared_experts->to(torch::kFloat64);
  EXPECT_EQ(layer->forward_with_routing(x).values.scalar_type(), torch::kFloat32);
  // Tokens that lie otherwise.
  const auto turned = x.t().contiguous().t();
  EXPECT_TRUE(torch::allclose(layer->forward_with_routing(turned).values, want, 1e-5, 1e-6));
}

}  // namespace
}  // namespace moekit::nn
