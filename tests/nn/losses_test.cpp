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

TEST(LoadBalanceLoss, NamesTheRowThatIsNoProbability) {
  auto probs = torch::full({8, 2}, 0.5);
  const auto message = [&]() -> std::string {
    try {
      load_balance_loss(probs, torch::zeros({8}, torch::kLong));
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(), "");
  probs[5][1] = 2.0;
  EXPECT_NE(message().find("row 5 sums to 2.5"), std::string::npos) << message();
  probs[3][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(message().find("row 3 sums to nan"), std::string::npos) << message();
}

/// Two sequences of two tokens, the first's to expert 0, the second's to expert 1, 0.9 sure.
Routing two_sequences() {
  auto routing = route(torch::tensor({{0.9, 0.1}, {0.9, 0.1}, {0.1, 0.9}, {0.1, 0.9}}).log(), 1,
                       CombineWeights::kProbs);
  routing.sequence = torch::tensor({0, 0, 1, 1}, torch::kLong);
  return routing;
}

TEST(LogitBalanceLoss, IsTheShareOfEachExpertTimesItsMeanLogit) {
  auto logits = torch::tensor({{1.0, 4.0}, {2.0, 0.0}, {3.0, 5.0}, {0.0, -1.0}}, torch::kDouble)
                    .requires_grad_();
  const auto expert = torch::tensor({1, 0, 1, 1}, torch::kLong);
  const auto loss = logit_balance_loss(logits, expert);
  EXPECT_DOUBLE_EQ(value(loss), 2 * (0.25 * 1.5 + 0.75 * 2.0));
  loss.backward();
  EXPECT_DOUBLE_EQ(logits.grad()[2][1].item<double>(), 2 * 0.75 / 4);
  EXPECT_EQ(value(logit_balance_loss(logits, torch::zeros({0}, torch::kLong))), 0);
}

TEST(BalanceLoss, TakesLogitsWhereItIsAskedTo) {
  const auto routing = route(torch::tensor({{2.0, -1.0}, {0.5, 1.0}, {3.0, 2.0}}), {1});
  const auto samples = torch::zeros({3, 1});
  BalanceLossOptions options;
  options.balance = 0.5;
  const auto of_probs = make_balance_loss(options, {}).value({routing, samples});
  options.balance_of = BalanceOf::kLogits;
  const auto of_logits = make_balance_loss(options, {}).value({routing, samples});
  EXPECT_NEAR(value(of_probs), 0.5 * value(load_balance_loss(routing.probs, routing.expert)), 1e-6);
  EXPECT_NEAR(value(of_logits), 0.5 * value(logit_balance_loss(routing.logits, routing.expert)),
              1e-6);
  options.balance = 0;
  EXPECT_THROW(check_balance_loss(options, {}, "loss"), ArgumentError);
}

TEST(SequenceBalanceLoss, SeesWhatIsBalancedOverTheBatchAlone) {
  const auto routing = two_sequences();
  // Batch: f = P = [1/2, 1/2]. A sequence: f = [1, 0], P = [0.9, 0.1], so 2 * 0.9.
  EXPECT_NEAR(value(load_balance_loss(routing.probs, routing.expert)), 1.0, 1e-6);
  EXPECT_NEAR(value(sequence_balance_loss(routing)), 1.8, 1e-6);
  BalanceLossOptions options{0.5, true};
  const auto of_recipe = make_balance_loss(options, {});
  EXPECT_NEAR(value(of_recipe.value({routing, {}})), 0.9, 1e-6);
  auto flat = routing;
  flat.sequence = torch::Tensor();
  EXPECT_THROW(sequence_balance_loss(flat), ArgumentError);
}

TEST(LoadBalanceLoss, CountsFirstChoicesAloneWhereAsked) {
  // Expert 0 is everybody's first choice; the second ones differ.
  const auto routing = route(torch::tensor({{3.0F, 1.0F, 0.0F}, {3.0F, 0.0F, 1.0F}}), 2);
  BalanceLossOptions options;
  options.balance = 1;
  const auto all = value(make_balance_loss(options, {}).value({routing, {}}));
  options.count = BalanceCount::kFirst;
  const auto first = value(make_balance_loss(options, {}).value({routing, {}}));
  const double p0 = value(routing.probs.mean(0)[0]);
  EXPECT_NEAR(first, 3 * p0, 1e-6);
  EXPECT_NEAR(all, 3 * (p0 / 2 + (1 - p0) / 4), 1e-6);
}

TEST(SequenceBalanceLoss, LeavesOutMaskedTokensAndSequences) {
  torch::manual_seed(7);
  const auto logits = torch::randn({3, 4, 5}).requires_grad_();
  const auto mask = torch::tensor(
      {{true, true, false, true}, {false, false, false, false}, {true, false, true, true}});
  const auto rows = mask.flatten().nonzero().squeeze(1);
  auto routing = route(logits.flatten(0, 1).index_select(0, rows), 2);
  routing.sequence = torch::tensor({0, 0, 0, 2, 2, 2}, torch::kLong);
  double want = 0;
  for (const int64_t begin : {0, 3}) {
    const auto own = route(routing.logits.detach().slice(0, begin, begin + 3), 2);
    want += value(load_balance_loss(own.probs, own.expert)) / 2;
  }
  const auto loss = sequence_balance_loss(routing);
  EXPECT_NEAR(value(loss), want, 1e-5);
  loss.backward();
  const auto moved = logits.grad().abs().sum(2).gt(0);
  EXPECT_TRUE(torch::equal(moved, mask));
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
  EXPECT_EQ(value(entropy_loss(torch::zeros({0, 4}))), 0);  // of no token
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

TEST(LoadLoss, TakesTheThresholdOfTheOtherExpertsByHand) {
  // One token, K = 1, noisy logits 2, 1, 0, noise of size 1. Expert 0 is chosen: it would be again
  // above the second largest, 1; the others above the largest, 2. P = Phi of 2 - 1, 1 - 2, 0 - 2.
  auto routing = route(torch::tensor({{2.0, 1.0, 0.0}}), 1, CombineWeights::kProbs);
  routing.clean_logits = routing.logits.clone();
  routing.noise_std = torch::ones({1, 3});
  // Phi = 0.841345, 0.158655, 0.0227501: mean 0.340917, unbiased variance 0.192439.
  EXPECT_NEAR(value(load_loss(routing)), 1.655754, 1e-4);
  // K = 2: experts 0 and 1 against the third largest, 0; expert 2 against the second, 1.
  auto two = route(torch::tensor({{2.0, 1.0, 0.0}}), 2);
  two.clean_logits = two.logits.clone();
  two.noise_std = torch::full({1, 3}, 0.5);
  // Phi of 4, 2 and -2: 0.999968, 0.977250, 0.0227501: mean 0.666656, variance 0.311090.
  EXPECT_NEAR(value(load_loss(two)), 0.699975, 1e-4);
}

TEST(LoadLoss, TakesTheChosenOneOfEqualLogitsForChosen) {
  auto routing = route(torch::zeros({1, 3}), 1, CombineWeights::kProbs);
  routing.clean_logits = torch::zeros({1, 3});
  routing.noise_std = torch::ones({1, 3});
  EXPECT_NEAR(value(load_loss(routing)), 0, 1e-6);  // Phi(0) for each
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

TEST(AuxLosses, AreComputedInFloatWhateverComes) {
  torch::manual_seed(3);
  const auto samples = torch::randn({300, 5}).to(torch::kBFloat16);
  for (const auto dtype : {torch::kBFloat16, torch::kFloat32}) {
    for (const auto& key : coefficients()) {
      const auto logits = (torch::randn({300, 64}) * 3).to(torch::kBFloat16);
      // The same numbers, in bfloat16 or as floats.
      const auto run = [&](torch::Dtype of) {
        const auto leaf = logits.clone().to(of).requires_grad_();
        auto routing = route(leaf, 2);
        routing.probs = torch::softmax(leaf, 1, torch::kFloat32).to(torch::kBFloat16).to(of);
        routing.clean_logits = leaf;
        routing.noise_std = torch::ones_like(leaf);
        const auto loss =
            aux_losses({routing, samples.to(of)}, losses_of(key + " = 1")).at(0).value;
        loss.backward();
        return std::pair(loss, leaf.grad());
      };
      const auto [loss, gradient] = run(dtype);
      const auto [want, want_gradient] = run(torch::kFloat32);
      EXPECT_EQ(loss.scalar_type(), torch::kFloat32) << key;
      EXPECT_EQ(value(loss), value(want)) << key;
      EXPECT_EQ(gradient.scalar_type(), dtype) << key;
      const double off = value((gradient.to(torch::kFloat32) - want_gradient).abs().max());
      EXPECT_LE(off, 0x1p-6 * value(want_gradient.abs().max())) << key;
    }
  }
}

TEST(AuxLosses, AreWantedWhereTheyAloneTrainARouter) {
  const auto router =
      std::make_shared<LinearRouterImpl>(LinearRouterOptions(5, 4).top_k(1).aux_only(true));
  const LossSite site{{{"moe", router, nullptr, nullptr, nullptr}}};
  EXPECT_THROW(check_aux_only(site, losses_of("")), ArgumentError);
  EXPECT_NO_THROW(check_aux_only(site, losses_of("balance = 0.1")));
  EXPECT_NO_THROW(check_aux_only(noisy_site(), losses_of("")));
  for (auto& p : router->parameters()) p.requires_grad_(false);
  EXPECT_NO_THROW(check_aux_only(site, losses_of("")));
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
