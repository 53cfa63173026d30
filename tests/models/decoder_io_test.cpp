#include "moekit/models/decoder_io.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/generator.h"

namespace moekit::models {
namespace {

constexpr int64_t kSymbols = 19;

DecoderConfig dense_config() {
  DecoderConfig config;
  config.hidden_size = 16;
  config.num_layers = 3;
  config.num_heads = 2;
  config.context = 20;
  config.routed_every = 0;
  config.qk_norm = true;
  config.init_std = 0.3;
  config.dense.intermediate_size(24);
  return config;
}

/// Mixtures in blocks 1 and 2.
DecoderConfig mixture_config() {
  auto config = dense_config();
  config.first_routed = 1;
  config.routed_every = 1;
  config.num_experts = 4;
  config.expert->as<nn::MlpExpertsOptions>().intermediate_size(24);
  return config;
}

Decoder drawn_decoder(const DecoderConfig& config, uint64_t seed) {
  Decoder model(config, kSymbols);
  model->reset_parameters(seed, seed + 1);
  model->eval();
  return model;
}

TEST(UpcycleDecoder, ComputesWhatTheDenseModelComputes) {
  const torch::NoGradGuard no_grad;
  auto from = drawn_decoder(dense_config(), 1);
  auto to = drawn_decoder(mixture_config(), 7);
  const auto ids = torch::randint(0, kSymbols, {2, 20}, tensor::make_generator(5), torch::kLong);
  const auto want = from->forward(ids, {}).logits;
  EXPECT_FALSE(torch::allclose(to->forward(ids, {}).logits, want, 1e-3, 1e-3));
  upcycle_decoder(*to, *from, {}, tensor::make_generator(9));
  EXPECT_TRUE(torch::allclose(to->forward(ids, {}).logits, want, 1e-4, 1e-5));
}

TEST(UpcycleDecoder, RefusesAnotherShapeAndChangesNothing) {
  const torch::NoGradGuard no_grad;
  const auto refusal = [&](const DecoderConfig& of, const DecoderConfig& config,
                           const nn::UpcycleOptions& options = {}) -> std::string {
    auto from = drawn_decoder(of, 1);
    auto to = drawn_decoder(config, 7);
    std::vector<torch::Tensor> before;
    for (const auto& p : to->parameters()) before.push_back(p.clone());
    try {
      upcycle_decoder(*to, *from, options, {});
    } catch (const ArgumentError& error) {
      for (size_t i = 0; i < before.size(); ++i) {
        EXPECT_TRUE(torch::equal(to->parameters()[i], before[i]));
      }
      return error.what();
    }
    return "taken";
  };
  const auto names = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  auto config = mixture_config();
  config.num_heads = 4;
  names(refusal(dense_config(), config), "model.num_heads");
  config = mixture_config();
  config.num_shared = 1;
  names(refusal(dense_config(), config), "model.num_shared");
  names(refusal(mixture_config(), mixture_config()), "layer1");
  names(refusal(dense_config(), dense_config()), "no mixture");
  config = mixture_config();
  config.expert->as<nn::MlpExpertsOptions>().intermediate_size(12);
  names(refusal(dense_config(), config), "24");
  auto other = dense_config();
  other.dense.intermediate_size(20);
  names(refusal(other, mixture_config()), "model.dense.intermediate_size is 24 here and 20");
}

}  // namespace
}  // namespace moekit::models
