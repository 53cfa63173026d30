#include "moekit/models/decoder.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/generator.h"

namespace moekit::models {
namespace {

constexpr int64_t kVocabulary = 23;

DecoderConfig small() {
  DecoderConfig config;
  config.hidden_size = 16;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.context = 40;
  config.first_routed = 1;
  config.num_experts = 4;
  config.num_shared = 1;
  config.qk_norm = true;
  config.dense.intermediate_size(24);
  config.expert->as<nn::MlpExpertsOptions>().intermediate_size(12);
  config.init_std = 0.3;
  return config;
}

Decoder made(const DecoderConfig& config) {
  Decoder model(config, kVocabulary);
  model->reset_parameters(1, 2);
  model->eval();
  return model;
}

torch::Tensor ids(int64_t batch, int64_t length, uint64_t seed = 5) {
  return torch::randint(0, kVocabulary, {batch, length}, tensor::make_generator(seed),
                        torch::kLong);
}

TEST(Decoder, LaterTokensChangeNoEarlierLogits) {
  const torch::NoGradGuard no_grad;
  auto model = made(small());
  auto text = ids(2, 30);
  const auto before = model->forward(text, {}).logits;
  ASSERT_EQ(before.sizes(), torch::IntArrayRef({2, 30, kVocabulary}));
  text.narrow(1, 20, 10).fill_(3);
  const auto after = model->forward(text, {}).logits;
  EXPECT_TRUE(torch::allclose(before.narrow(1, 0, 20), after.narrow(1, 0, 20), 0, 1e-6));
  EXPECT_FALSE(torch::allclose(before.narrow(1, 20, 10), after.narrow(1, 20, 10), 0, 1e-3));
}

TEST(Decoder, WhatComesLaterReachesEarlierTokensByExpertsThatChooseAlone) {
  const torch::NoGradGuard no_grad;
  for (const char* kind : {"linear", "scored", "gshard", "hash", "base", "relu", "expert_choice"}) {
    auto config = small();
    config.router->select(kind);
    if (config.router->is("linear")) {
      config.router->as<nn::LinearRouterConfig>().router.top_k(2).bias(false);
    }
    auto model = made(config);
    auto text = ids(2, 30);
    const auto before = model->forward(text, {}).logits.narrow(1, 0, 20);
    text.narrow(1, 20, 10).fill_(3);
    const auto after = model->forward(text, {}).logits.narrow(1, 0, 20);
    const bool causal = nn::routed_layers(*model)[0].router->traits().causal;
    EXPECT_EQ(torch::allclose(before, after, 0, 1e-5), causal) << kind;
    EXPECT_EQ(causal, std::string(kind) != "expert_choice");
  }
}

TEST(Decoder, WithACacheLogitsAreThoseOfTheWholeText) {
  const torch::NoGradGuard no_grad;
  const auto config = small();
  auto model = made(config);
  const auto text = ids(2, 12);
  const auto whole = model->forward(text, {}).logits;
  DecoderCache cache(config, 2, 20);
  std::vector<torch::Tensor> parts;
  parts.push_back(model->forward_cached(text.narrow(1, 0, 5), {}, cache).logits);
  for (int64_t t = 5; t < 12; ++t) {
    parts.push_back(model->forward_cached(text.narrow(1, t, 1), {}, cache).logits);
  }
  EXPECT_EQ(cache.length(), 12);
  EXPECT_TRUE(torch::allclose(torch::cat(parts, 1), whole, 1e-4, 1e-5));
  EXPECT_THROW(model->forward_cached(ids(2, 9), {}, cache), ArgumentError);  // 12 + 9 > 20
  EXPECT_THROW(model->forward_cached(ids(1, 1), {}, cache), ArgumentError);
}

TEST(Decoder, DocumentsSideBySideAreAsAlone) {
  const torch::NoGradGuard no_grad;
  auto config = small();
  auto model = made(config);
  const auto text = ids(1, 20);
  auto first = torch::zeros({1, 20}, torch::kInt);
  first.narrow(1, 8, 12).fill_(8);
  const auto both = model->forward(text, {}, first).logits;
  const auto one = model->forward(text.narrow(1, 0, 8), {}).logits;
  EXPECT_TRUE(torch::allclose(both.narrow(1, 0, 8), one, 1e-4, 1e-5));
  // Rotary positions tell distances alone: the second document may begin anywhere.
  const auto two = model->forward(text.narrow(1, 8, 12), {}).logits;
  EXPECT_TRUE(torch::allclose(both.narrow(1, 8, 12), two, 1e-4, 1e-5));
}

TEST(Decoder, RoutersHearOfTheMixtureBeforeAlsoWithAMask) {
  const torch::NoGradGuard no_grad;
  auto config = small();
  auto plain = made(config);
  config.router->as<nn::LinearRouterConfig>().router.residual(true);
  auto model = made(config);
  const auto text = ids(2, 9);
  nn::RouterContext context;
  context.mask = torch::ones({2, 9}, torch::kBool);
  context.mask[1].narrow(0, 5, 4).fill_(false);
  const auto output = model->forward(text, context);
  const auto short_one = model->forward(text.narrow(0, 1, 1).narrow(1, 0, 5), {});
  EXPECT_TRUE(torch::allclose(output.logits[1].narrow(0, 0, 5), short_one.logits[0], 1e-3, 1e-5));
  // Without what it adds, the model is the one that has no residuals, bit for bit.
  auto parameters = model->named_parameters();
  for (auto& item : plain->named_parameters()) item.value().copy_(parameters[item.key()]);
  EXPECT_FALSE(torch::equal(plain->forward(text, {}).logits, model->forward(text, {}).logits));
  int zeroed = 0;
  for (auto& item : parameters) {
    if (item.key().find("residual_weight") == std::string::npos) continue;
    item.value().zero_();
    ++zeroed;
  }
  EXPECT_EQ(zeroed, 1);  // the first of two mixtures has none
  EXPECT_TRUE(torch::equal(plain->forward(text, {}).logits, model->forward(text, {}).logits));
}

TEST(Decoder, HasMixturesWhereTheConfigSays) {
  auto model = made(small());
  std::vector<std::string> names;
  for (const auto& layer : nn::routed_layers(*model)) names.push_back(layer.name);
  EXPECT_EQ(names, (std::vector<std::string>{"layer1.moe", "layer2.moe"}));
  const auto output = model->forward(ids(1, 7), {});
  ASSERT_EQ(output.layers.size(), 2U);
  EXPECT_EQ(output.layers[0].routing.num_tokens(), 7);
  EXPECT_EQ(output.layers[0].routing.top_k(), 2);
  EXPECT_EQ(output.layers[0].name, "layer1");
}

TEST(Decoder, EveryParameterLearns) {
  auto config = small();
  config.tied_embeddings = false;
  auto model = made(config);
  model->train();
  const auto text = ids(4, 30);
  const auto logits = model->forward(text, {}).logits;
  torch::nll_loss(torch::log_softmax(logits.flatten(0, 1), 1), text.flatten()).backward();
  for (const auto& item : model->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().sum().item<double>(), 0) << item.key();
  }
}

TEST(Decoder, ACloneSharesNothing) {
  const torch::NoGradGuard no_grad;
  auto model = made(small());
  const auto text = ids(1, 9);
  const auto before = model->forward(text, {}).logits;
  auto copy = std::dynamic_pointer_cast<DecoderImpl>(model->clone());
  copy->reset_parameters(8, 9);
  EXPECT_TRUE(torch::equal(model->forward(text, {}).logits, before));
  EXPECT_FALSE(torch::equal(copy->forward(text, {}).logits, before));
}

TEST(Decoder, RefusesImpossibleValues) {
  const auto refuses = [](auto&& change, const std::string& key) {
    auto config = small();
    change(config);
    try {
      check_decoder(config, kVocabulary, "model");
      ADD_FAILURE() << key << " was taken";
    } catch (const ArgumentError& error) {
      EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
    }
  };
  refuses([](auto& c) { c.num_heads = 3; }, "model.num_heads");
  refuses([](auto& c) { c.head_size = 5; }, "model.head_size");
  refuses([](auto& c) { c.num_kv_heads = 3; }, "model.num_kv_heads");
  refuses([](auto& c) { c.first_routed = 3; }, "model.first_routed");
  refuses([](auto& c) { c.router->template as<nn::LinearRouterConfig>().router.top_k(5); },
          "model.router");
  auto model = made(small());
  EXPECT_THROW(model->forward(ids(1, 41), {}), ArgumentError);  // beyond the context
  EXPECT_THROW(model->forward(torch::full({1, 2}, kVocabulary), {}), ArgumentError);
  EXPECT_THROW(model->forward(torch::full({1, 2}, -1), {}), ArgumentError);
}

}  // namespace
}  // namespace moekit::models
