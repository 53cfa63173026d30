#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/nn/loss_kinds.h"
#include "moekit/nn/losses/aux_loss.h"
#include "moekit/nn/losses/balance_loss.h"
#include "moekit/nn/losses/entropy_loss.h"
#include "moekit/nn/losses/importance_loss.h"
#include "moekit/nn/losses/load_loss.h"
#include "moekit/nn/losses/router_z_loss.h"
#include "moekit/nn/losses/sample_similarity_loss.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"

namespace moekit::nn {
namespace {

double value(const torch::Tensor& t) { return t.item<double>(); }

TEST(ImportanceLoss, MatchesTheSquaredVariationByHand) {
  // Importances [3, 1]: mean 2, unbiased variance 2, so 2 / 4.
  const auto probs = torch::tensor({{1.0, 0.0}, {1.0, 0.0}, {0.5, 0.5}, {0.5, 0.5}});
  EXPECT_NEAR(value(importance_loss(probs)), 0.5, 1e-6);
  EXPECT_EQ(value(importance_loss(torch::full({4, 2}, 0.5))), 0);
  EXPECT_NEAR(value(importance_loss(torch::tensor({{0.0, 1.0, 0.0}}))), 3, 1e-6);
}

TEST(ImportanceLoss, IsZeroForOneExpertAndForNoTokens) {
  EXPECT_EQ(value(importance_loss(torch::ones({3, 1}))), 0);
  EXPECT_EQ(value(importance_loss(torch::zeros({0, 3}))), 0);
}

TEST(LoadBalanceLoss, IsOneForAUniformRouter) {
  // E = 2, N = 4, two tokens each: f = P = [1/2, 1/2], so 2 * (1/4 + 1/4) = 1.
  const auto probs = torch::full({4, 2}, 0.5);
  const auto index = torch::tensor({0, 1, 0, 1}, torch::kLong).unsqueeze(1);
  EXPECT_NEAR(value(load_balance_loss(probs, index.flatten())), 1.0, 1e-6);
}

TEST(LoadBalanceLoss, IsEOverKWhenTheRouterCollapsesOnKExperts) {
  for (const int64_t k : {1, 2, 3}) {
    const auto probs = torch::cat(
        {torch::full({5, k}, 1.0 / static_cast<double>(k)), torch::zeros({5, 6 - k})}, 1);
    const auto index = torch::arange(k, torch::kLong).expand({5, k});
    EXPECT_NEAR(value(load_balance_loss(probs, index.flatten())), 6.0 / static_cast<double>(k),
                1e-5);
  }
}

TEST(LoadBalanceLoss, RefusesLogitsWhereProbabilitiesAreWanted) {
  // A second softmax inside the loss would accept them and give nearly a constant.
  EXPECT_THROW(load_balance_loss(torch::randn({4, 3}) * 5, torch::zeros({4}, torch::kLong)),
               ArgumentError);
}

TEST(LoadBalanceLoss, HasAGradientThatTakesMassFromTheOverloadedExpert) {
  const auto logits = torch::zeros({4, 2}).requires_grad_();
  const auto index = torch::tensor({0, 0, 0, 1}, torch::kLong).unsqueeze(1);
  load_balance_loss(torch::softmax(logits, 1), index.flatten()).backward();
  EXPECT_GT(value(logits.grad().sum(0)[0]), 0);  // a step against it lowers expert 0
  EXPECT_LT(value(logits.grad().sum(0)[1]), 0);
}

TEST(RouterZLoss, IsTheMeanSquaredLogSumExp) {
  const auto logits = torch::zeros({3, 4});
  EXPECT_NEAR(value(router_z_loss(logits)), std::log(4.0) * std::log(4.0), 1e-6);
  EXPECT_EQ(value(router_z_loss(torch::zeros({0, 4}))), 0);
}

TEST(EntropyLoss, IsLogEForUniformLogitsAndFiniteForInfiniteOnes) {
  EXPECT_NEAR(value(entropy_loss(torch::zeros({2, 8}))), std::log(8.0), 1e-6);
  const auto hard = torch::tensor({{0.0F, -std::numeric_limits<float>::infinity()}});
  EXPECT_EQ(value(entropy_loss(hard)), 0);
}

TEST(LoadLoss, IsZeroForEqualLogitsAndRefusesARouterWithoutNoise) {
  auto routing = route(torch::tensor({{1.0F, 0.0F}, {0.0F, 1.0F}}), 1);
  EXPECT_THROW(load_loss(routing), ArgumentError);
  routing.clean_logits = routing.logits.clone().requires_grad_();
  routing.noise_std = torch::ones({2, 2});
  const auto loss = load_loss(routing);
  EXPECT_NEAR(value(loss), 0, 1e-6);  // mirrored tokens: both experts get the same load
  routing.clean_logits = torch::tensor({{2.0F, 0.0F}, {0.0F, 1.0F}}).requires_grad_();
  load_loss(routing).backward();
  EXPECT_TRUE(routing.clean_logits.grad().defined());
}

TEST(SampleSimilarityLoss, EqualsTheDefinitionInBothNormalisations) {
  torch::manual_seed(1);
  const auto probs = torch::softmax(torch::randn({6, 3}), 1).to(torch::kFloat64);
  const auto x = torch::randn({6, 4}).to(torch::kFloat64);
  const auto d = pairwise_distance(x);
  double same = 0;
  double different = 0;
  for (int64_t n = 0; n < 6; ++n) {
    for (int64_t m = 0; m < 6; ++m) {
      const double distance = value((x[n] - x[m]).norm());
      EXPECT_NEAR(value(d[n][m]), distance, 1e-6);
      for (int64_t i = 0; i < 3; ++i) {
        for (int64_t j = 0; j < 3; ++j) {
          (i == j ? same : different) += value(probs[n][i]) * value(probs[m][j]) * distance;
        }
      }
    }
  }
  const SampleSimilarityOptions mean{0.3, 0.7, SimilarityScale::kMean};
  EXPECT_NEAR(value(sample_similarity_loss(probs, d, mean)),
              0.3 / 3 * same / 36 - 0.7 / 6 * different / 36, 1e-7);
  const SampleSimilarityOptions released{0.3, 0.7, SimilarityScale::kReleased};
  EXPECT_NEAR(value(sample_similarity_loss(probs, d, released)),
              0.3 / 3 * same - 0.7 / 6 * different / 36, 1e-7);
}

TEST(SampleSimilarityLoss, HandlesOneExpertOneSampleAndIdenticalImages) {
  const auto one = torch::ones({3, 1});
  const auto d = pairwise_distance(torch::ones({3, 5}));
  EXPECT_EQ(value(d.abs().max()), 0);
  EXPECT_EQ(value(sample_similarity_loss(one, d, {1, 1})), 0);
  EXPECT_EQ(value(sample_similarity_loss(torch::full({1, 2}, 0.5), torch::zeros({1, 1}), {1, 1})),
            0);
}

/// A model of one layer whose router has learned noise and chooses 2 of 4.
LossSite noisy_site() {
  const auto router = std::make_shared<LinearRouterImpl>(
      LinearRouterOptions(5, 4).top_k(2).noise(RouterNoise::kGaussian));
  return {{{"moe", router, nullptr, nullptr, nullptr}}};
}

/// The losses of a recipe's section `loss`.
std::vector<AuxLoss> losses_of(const std::string& toml) {
  OptionSet<LossKinds> options;
  bind_config(parse_toml(toml, "r.toml"), options);
  options.check(noisy_site(), "loss");
  return options.make(noisy_site());
}

/// The coefficients that recipes can give, whatever losses there are.
std::vector<std::string> coefficients() {
  std::vector<std::string> keys;
  for (const auto& key : config_keys(OptionSet<LossKinds>{})) {
    if (key.default_value == "0.0") keys.push_back(key.path);
  }
  return keys;
}

TEST(AuxLosses, KeepTheBatchOrderOutOfEveryLoss) {
  torch::manual_seed(2);
  const auto logits = torch::randn({8, 4});
  const auto samples = torch::randn({8, 5});
  const auto order = torch::tensor({3, 1, 7, 0, 2, 6, 5, 4}, torch::kLong);
  ASSERT_GE(coefficients().size(), 7U);
  for (const auto& key : coefficients()) {
    const auto losses = losses_of(key + " = 0.5");
    const auto total = [&](const torch::Tensor& l, const torch::Tensor& x) {
      auto routing = route(l, 2);
      routing.clean_logits = l;
      routing.noise_std = torch::ones_like(l);
      return value(aux_losses({routing, x}, losses).at(0).value);
    };
    EXPECT_NEAR(total(logits, samples),
                total(logits.index_select(0, order), samples.index_select(0, order)), 1e-5)
        << key;
  }
}

TEST(AuxLosses, EveryLossThatIsAskedForActsOnTheRouter) {
  // A coefficient above 0 with no effect, or a value without gradient, are known traps.
  const auto samples = torch::randn({6, 5});
  for (const auto& key : coefficients()) {
    const auto logits = torch::randn({6, 4}).requires_grad_();
    auto routing = route(logits, 2);
    routing.clean_logits = logits;
    routing.noise_std = torch::ones_like(logits);
    const auto terms = aux_losses({routing, samples}, losses_of(key + " = 1"));
    ASSERT_EQ(terms.size(), 1U) << key;
    terms[0].value.backward();
    EXPECT_GT(value(logits.grad().abs().sum()), 0) << key;
  }
  EXPECT_TRUE(aux_losses({route(torch::randn({6, 4})), samples}, losses_of("")).empty());
}

TEST(AuxLosses, AreRefusedWhereNoRouterLearns) {
  const auto oracle = std::make_shared<OracleRouterImpl>(OracleRouterOptions({{0}, {1}}));
  const LossSite told{{{"mixture", oracle, nullptr, nullptr, nullptr}}};
  for (const auto& key : coefficients()) {
    OptionSet<LossKinds> options;
    bind_config(parse_toml(key + " = 1", "r.toml"), options);
    EXPECT_THROW(options.check(told, "loss"), ArgumentError) << key;
    EXPECT_THROW(options.check(LossSite{}, "loss"), ArgumentError) << key;
  }
  OptionSet<LossKinds> load;
  bind_config(parse_toml("load = 1", "r.toml"), load);
  const LossSite calm{{{"moe", std::make_shared<LinearRouterImpl>(LinearRouterOptions(5, 4)),
                        nullptr, nullptr, nullptr}}};
  EXPECT_THROW(load.check(calm, "loss"), ArgumentError);
}

}  // namespace
}  // namespace moekit::nn
