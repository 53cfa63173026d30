#include "moekit/nn/mixture.h"

#include <gtest/gtest.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

constexpr int64_t kSize = 6;
constexpr int64_t kClasses = 4;
constexpr int64_t kMixed = 3;

Mixture make_mixture(MixtureForm form, int64_t top_k = 0) {
  torch::manual_seed(1);
  return Mixture(
      std::make_shared<LinearRouterImpl>(LinearRouterOptions(kSize, kMixed).top_k(top_k)),
      std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(kSize, 5, kMixed).output_size(kClasses)),
      MixtureOptions().form(form));
}

/// o[n][c] and its parts, element by element in double.
struct Reference {
  torch::Tensor gate, probs, logits;
  Reference(Mixture& mixture, const torch::Tensor& x) {
    logits = mixture->experts->forward_all(x).values.to(torch::kFloat64);
    probs = torch::softmax(logits, 2);
    gate = mixture->router->forward(x, {}).probs.to(torch::kFloat64);
  }
};

TEST(Mixture, ExpectationIsTheGateWeightedSumOfProbabilities) {
  auto mixture = make_mixture(MixtureForm::kExpectation);
  const auto x = torch::randn({7, kSize});
  const Reference r(mixture, x);
  const auto want = (r.probs * r.gate.t().unsqueeze(2)).sum(0);
  const auto output = mixture->forward(x);
  EXPECT_TRUE(torch::allclose(output.log_probs.exp().to(torch::kFloat64), want, 1e-5, 1e-6));
  const auto y = torch::randint(kClasses, {7}, torch::kLong);
  const double loss = -want.gather(1, y.unsqueeze(1)).log().mean().item<double>();
  EXPECT_NEAR(mixture->loss(output, y).item<double>(), loss, 1e-5);
}

TEST(Mixture, LeavesMaskedInputsOut) {
  for (const auto form :
       {MixtureForm::kExpectation, MixtureForm::kStochastic, MixtureForm::kTopK}) {
    auto mixture = make_mixture(form, form == MixtureForm::kTopK ? 2 : 0);
    auto x = torch::randn({5, kSize});
    const auto rows = torch::tensor({0, 2, 4}, torch::kLong);
    const auto y =
        torch::tensor({1, 99, 0, 99, 3}, torch::kLong);  // labels of none may be anything
    RouterContext context;
    context.mask = torch::tensor({true, false, true, false, true});
    context.generator = at::detail::createCPUGenerator(3);
    RouterContext alone;
    alone.generator = at::detail::createCPUGenerator(3);
    const auto want = mixture->forward(x.index_select(0, rows), alone);
    x[1] = std::numeric_limits<float>::quiet_NaN();
    const auto output = mixture->forward(x, context);
    EXPECT_TRUE(
        torch::allclose(output.log_probs.index_select(0, rows), want.log_probs, 1e-5, 1e-6));
    EXPECT_EQ(output.log_probs[1].abs().sum().item<float>(), 0.0F);
    EXPECT_EQ(output.routing.num_tokens(), 3);
    EXPECT_EQ(output.inputs.size(0), 3);
    EXPECT_NEAR(mixture->loss(output, y).item<double>(),
                mixture->loss(want, y.index_select(0, rows)).item<double>(), 1e-5);
  }
}

TEST(Mixture, PreSoftmaxMixesLogits) {
  auto mixture = make_mixture(MixtureForm::kPreSoftmax);
  const auto x = torch::randn({7, kSize});
  const Reference r(mixture, x);
  const auto want = torch::softmax((r.logits * r.gate.t().unsqueeze(2)).sum(0), 1);
  EXPECT_TRUE(
      torch::allclose(mixture->forward(x).log_probs.exp().to(torch::kFloat64), want, 1e-5, 1e-6));
}

TEST(Mixture, StochasticTrainsByJacobsLossAndTestsByTheArgmax) {
  auto mixture = make_mixture(MixtureForm::kStochastic);
  const auto x = torch::randn({7, kSize});
  const Reference r(mixture, x);
  const auto y = torch::randint(kClasses, {7}, torch::kLong);
  double want = 0;
  for (int64_t n = 0; n < 7; ++n) {
    double sum = 0;
    for (int64_t e = 0; e < kMixed; ++e) {
      sum += r.gate[n][e].item<double>() *
             std::sqrt(r.probs[e][n][y[n].item<int64_t>()].item<double>());
    }
    want -= std::log(sum) / 7;
  }
  mixture->train();
  RouterContext context;
  context.generator = at::detail::createCPUGenerator(4);
  EXPECT_NEAR(mixture->loss(mixture->forward(x, context), y).item<double>(), want, 1e-5);
  mixture->eval();
  const auto best = r.gate.argmax(1);
  const auto out = mixture->forward(x).log_probs.exp();
  for (int64_t n = 0; n < 7; ++n) {
    EXPECT_TRUE(torch::allclose(out[n].to(torch::kFloat64), r.probs[best[n].item<int64_t>()][n],
                                1e-5, 1e-6));
  }
}

TEST(Mixture, TopOneGivesADistributionWhoseGateLearns) {
  auto mixture = make_mixture(MixtureForm::kTopK, 1);
  const auto x = torch::randn({7, kSize});
  const Reference r(mixture, x);
  mixture->train();
  const auto output = mixture->forward(x);
  const auto probs = output.log_probs.exp();
  EXPECT_TRUE(torch::allclose(probs.sum(1), torch::ones({7}), 1e-5, 1e-5));
  const auto best = r.gate.argmax(1);
  for (int64_t n = 0; n < 7; ++n) {
    const auto e = best[n].item<int64_t>();
    const double p = r.gate[n][e].item<double>();
    EXPECT_TRUE(
        torch::allclose(probs[n].to(torch::kFloat64), p * r.probs[e][n] + (1 - p) / 4, 1e-5, 1e-6));
  }
  mixture->loss(output, torch::zeros({7}, torch::kLong)).backward();
  EXPECT_GT(mixture->router->parameters()[0].grad().abs().sum().item<float>(), 0);
}

TEST(Mixture, TopKRunsOnlyTheChosenExpertsOutsideTrainingWithTheSameResult) {
  for (const int64_t k : {1, 2}) {
    auto mixture = make_mixture(MixtureForm::kTopK, k);
    const auto x = torch::randn({9, kSize});
    mixture->train();
    const auto dense = mixture->forward(x);
    mixture->eval();
    EXPECT_TRUE(mixture->runs_sparsely());
    const auto sparse = mixture->forward(x);
    EXPECT_TRUE(dense.expert_log_probs.defined());
    EXPECT_FALSE(sparse.expert_log_probs.defined());
    EXPECT_TRUE(torch::allclose(dense.log_probs, sparse.log_probs, 1e-4, 1e-5)) << k;
  }
}

TEST(Mixture, StaysFiniteWhenOneProbabilityIsOne) {
  auto mixture = make_mixture(MixtureForm::kTopK, 1);
  const torch::NoGradGuard no_grad;
  mixture->router->parameters()[0].mul_(1e6);
  EXPECT_TRUE(
      torch::isfinite(mixture->forward(torch::randn({5, kSize})).log_probs).all().item<bool>());
}

TEST(Mixture, RefusesPartsThatDoNotFit) {
  const auto experts = std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 5, 3));
  EXPECT_THROW(Mixture(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4)), experts),
               ArgumentError);
  EXPECT_THROW(
      Mixture(std::make_shared<AttentiveRouterImpl>(AttentiveRouterOptions(6, 3)), experts),
      ArgumentError);
}

TEST(Mixture, RefusesOneExpertUnlessToldThatItsRouterLearnsNothing) {
  const auto one = [](bool aux_only) {
    return Mixture(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 1).aux_only(aux_only)),
                   std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 5, 1)));
  };
  EXPECT_THROW(one(false), ArgumentError);
  EXPECT_NO_THROW(one(true));
  EXPECT_THROW(Mixture(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 3).aux_only(true)),
                       std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 5, 3))),
               ArgumentError);
}

TEST(Mixture, TakesTheLowestExpertOfEqualLogits) {
  const auto experts =
      std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 5, 40).output_size(kClasses));
  for (const auto form : {MixtureForm::kStochastic, MixtureForm::kTopK}) {
    Mixture mixture(
        std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 40)
                                               .top_k(form == MixtureForm::kTopK ? 1 : 0)
                                               .init(RouterInit::kZero)),
        experts, MixtureOptions().form(form));
    mixture->eval();
    const auto x = torch::randn({3, 6});
    const auto first = torch::softmax(experts->forward_all(x).values[0], 1);
    const auto want = form == MixtureForm::kTopK ? first / 40 + 39.0 / 40 / kClasses : first;
    EXPECT_TRUE(torch::allclose(mixture->forward(x).log_probs.exp(), want, 1e-4, 1e-5));
  }
}

TEST(Mixture, ACloneIsDeep) {
  auto mixture = make_mixture(MixtureForm::kExpectation);
  Mixture copy(std::dynamic_pointer_cast<MixtureImpl>(mixture->clone()));
  const auto x = torch::randn({3, kSize});
  const auto before = copy->forward(x).log_probs.detach().clone();
  const torch::NoGradGuard no_grad;
  for (auto& p : mixture->parameters()) p.add_(1);
  EXPECT_TRUE(torch::equal(copy->forward(x).log_probs, before));
  EXPECT_EQ(copy->named_parameters().size(), mixture->named_parameters().size());
}

TEST(HistoricalErrors, MatchHandWorkedValues) {
  // One sample, two experts with outputs 0 and 2, gate [1/2, 1/2], target 0.
  const auto gate = torch::tensor({{0.5, 0.5}});
  const auto outputs = torch::tensor({0.0, 2.0}).reshape({2, 1, 1});
  const auto target = torch::zeros({1, 1});
  EXPECT_NEAR(cooperative_error(gate, outputs, target).item<double>(), 1, 1e-6);
  EXPECT_NEAR(localized_error(gate, outputs, target).item<double>(), 2, 1e-6);
  EXPECT_NEAR(competitive_error(gate, outputs, target).item<double>(),
              -std::log(0.5 + 0.5 * std::exp(-2.0)), 1e-6);
}

TEST(Mixture, RunsChosenExpertsAloneInTheTopKFormOutsideTrainingOnly) {
  auto mixture = make_mixture(MixtureForm::kTopK, 2);
  EXPECT_FALSE(mixture->runs_sparsely());
  mixture->eval();
  EXPECT_TRUE(mixture->runs_sparsely());
  auto dense = make_mixture(MixtureForm::kExpectation);
  dense->eval();
  EXPECT_FALSE(dense->runs_sparsely());
  Mixture attentive(std::make_shared<AttentiveRouterImpl>(AttentiveRouterOptions(kSize, 3).top_k(2),
                                                          torch::nn::AnyModule()),
                    std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(kSize, kSize, 3)),
                    MixtureOptions().form(MixtureForm::kTopK));
  attentive->eval();
  EXPECT_FALSE(attentive->runs_sparsely());
  EXPECT_TRUE(attentive->forward(torch::randn({4, kSize})).expert_features.defined());
}

TEST(Mixture, GivesEveryPartOfItsOutputInTheShapeOfTheTokens) {
  auto mixture = make_mixture(MixtureForm::kExpectation);
  const auto x = torch::randn({2, 5, kSize});
  RouterContext context;
  context.mask = torch::ones({2, 5}, torch::kBool);
  context.mask[0][3] = false;
  context.mask[1][0] = false;
  const auto output = mixture->forward(x, context);
  const auto whole = mixture->forward(x.flatten(0, 1));
  EXPECT_EQ(output.log_probs.sizes(), (std::vector<int64_t>{2, 5, kClasses}));
  EXPECT_EQ(output.log_gate.sizes(), (std::vector<int64_t>{2, 5, kMixed}));
  EXPECT_EQ(output.expert_log_probs.sizes(), (std::vector<int64_t>{kMixed, 2, 5, kClasses}));
  EXPECT_EQ(output.expert_features.sizes(), (std::vector<int64_t>{kMixed, 2, 5, 5}));
  const auto there = context.mask.flatten().to(torch::kFloat).unsqueeze(1);
  const auto near = [](const torch::Tensor& a, const torch::Tensor& b) {
    return torch::allclose(a, b, 1e-4, 1e-5);
  };
  EXPECT_TRUE(near(output.log_probs.flatten(0, 1), whole.log_probs * there));
  EXPECT_TRUE(near(output.log_gate.flatten(0, 1), whole.log_gate * there));
  EXPECT_TRUE(near(output.expert_log_probs.flatten(1, 2), whole.expert_log_probs * there));
  EXPECT_TRUE(near(output.expert_features.flatten(1, 2), whole.expert_features * there));
  EXPECT_TRUE(near(output.log_gate.flatten(0, 1)[0], torch::log(output.routing.probs[0])));
  const auto rows = torch::tensor({0, 1, 2, 4, 6, 7, 8, 9}, torch::kLong);
  EXPECT_TRUE(torch::equal(output.routing.rows, rows));
  EXPECT_TRUE(
      torch::equal(output.routing.sequence, torch::tensor({0, 0, 0, 0, 1, 1, 1, 1}, torch::kLong)));
  EXPECT_TRUE(torch::equal(output.inputs, x.flatten(0, 1).index_select(0, rows)));
  EXPECT_FALSE(whole.routing.rows.defined());
  EXPECT_FALSE(whole.routing.sequence.defined());
  EXPECT_TRUE(
      torch::allclose(mixture->outputs_of(x.flatten(0, 1), {}), whole.log_probs.exp(), 1e-5, 1e-6));
}

TEST(Mixture, TakesTheLossOfSparseOutputsOfMaskedSequences) {
  for (const int64_t top_k : {1, 2}) {
    auto mixture = make_mixture(MixtureForm::kTopK, top_k);
    mixture->eval();
    const auto x = torch::randn({2, 3, kSize});
    RouterContext context;
    context.mask = torch::tensor({{true, true, false}, {true, true, true}});
    const auto labels = torch::tensor({{0, 3, 99}, {1, 2, 2}}, torch::kLong);
    const auto output = mixture->forward(x, context);
    double want = 0;
    for (const auto& [b, t] : {std::pair{0, 0}, {0, 1}, {1, 0}, {1, 1}, {1, 2}}) {
      want -= output.log_probs[b][t][labels[b][t].item<int64_t>()].item<double>() / 5;
    }
    EXPECT_NEAR(mixture->loss(output, labels).item<double>(), want, 1e-5);
    EXPECT_FALSE(output.expert_log_probs.defined());
    EXPECT_FALSE(output.expert_features.defined());
  }
}

TEST(Mixture, DrawsAnExpertFromTheGateWithTheGivenGenerator) {
  auto mixture = make_mixture(MixtureForm::kStochastic);
  const auto x = torch::randn({1, kSize}).expand({4000, kSize}).contiguous();
  const auto chosen = [&](uint64_t seed) {
    RouterContext context;
    context.generator = at::detail::createCPUGenerator(seed);
    const auto output = mixture->forward(x, context);
    // Which expert's probabilities were taken.
    const auto apart = (output.expert_log_probs - output.log_probs).abs().sum(2);  // [E, N]
    return apart.argmin(0);
  };
  const auto a = chosen(1);
  EXPECT_TRUE(torch::equal(a, chosen(1)));
  EXPECT_FALSE(torch::equal(a, chosen(2)));
  const auto share = torch::bincount(a, {}, kMixed).to(torch::kFloat) / 4000;
  const auto want = mixture->forward(x.narrow(0, 0, 1)).routing.probs[0];
  EXPECT_TRUE(torch::allclose(share, want, 0, 0.04)) << share << want;
}

TEST(Mixture, TrainsANoisyRouterWithNoiseAndTestsItWithout) {
  torch::manual_seed(8);
  Mixture mixture(std::make_shared<LinearRouterImpl>(
                      LinearRouterOptions(kSize, kMixed).noise(RouterNoise::kGaussian)),
                  std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(kSize, 5, kMixed)));
  const auto x = torch::randn({4, kSize});
  const auto gate = [&](uint64_t seed) {
    RouterContext context;
    context.generator = at::detail::createCPUGenerator(seed);
    return mixture->forward(x, context).log_gate;
  };
  EXPECT_FALSE(torch::equal(gate(1), gate(2)));
  EXPECT_TRUE(torch::equal(gate(1), gate(1)));
  mixture->eval();
  EXPECT_TRUE(torch::equal(gate(1), gate(2)));
}

TEST(Mixture, CountsRouterAndExpertsDenseAndSparse) {
  auto mixture = make_mixture(MixtureForm::kTopK, 2);
  const auto parts = [&] {
    const tensor::OperationCounter counter;
    mixture->forward(torch::randn({7, kSize}));
    return counter.parts();
  };
  using Parts = std::vector<std::pair<std::string, double>>;
  const double each = 2.0 * (kSize * 5 + 5 * kClasses);
  const double router = 2.0 * 7 * kSize * kMixed;
  EXPECT_EQ(parts(), (Parts{{"experts", 7 * kMixed * each}, {"router", router}}));
  mixture->eval();
  EXPECT_EQ(parts(), (Parts{{"router", router}, {"experts", 7 * 2 * each}}));
}

TEST(HistoricalErrors, AreThePlainLoops) {
  torch::manual_seed(9);
  const int64_t n = 3, e = 2, o = 4;
  const auto gate = torch::softmax(torch::randn({n, e}, torch::kFloat64), 1);
  const auto outputs = torch::randn({e, n, o}, torch::kFloat64);
  const auto target = torch::randn({n, o}, torch::kFloat64);
  double joined = 0, local = 0, competitive = 0, jacobs = 0;
  const auto log_probs = torch::log_softmax(outputs, 2);
  const auto labels = torch::tensor({2, 0, 3}, torch::kLong);
  for (int64_t i = 0; i < n; ++i) {
    auto sum = torch::zeros({o}, torch::kFloat64);
    double mass = 0, of_jacobs = 0;
    for (int64_t k = 0; k < e; ++k) {
      const double p = gate[i][k].item<double>();
      const double square = (target[i] - outputs[k][i]).square().sum().item<double>();
      sum = sum + p * outputs[k][i];
      local += p * square / n;
      mass += p * std::exp(-square / 2);
      of_jacobs += p * std::exp(log_probs[k][i][labels[i].item<int64_t>()].item<double>() / 2);
    }
    joined += (sum - target[i]).square().sum().item<double>() / n;
    competitive -= std::log(mass) / n;
    jacobs -= std::log(of_jacobs) / n;
  }
  EXPECT_NEAR(cooperative_error(gate, outputs, target).item<double>(), joined, 1e-10);
  EXPECT_NEAR(localized_error(gate, outputs, target).item<double>(), local, 1e-10);
  EXPECT_NEAR(competitive_error(gate, outputs, target).item<double>(), competitive, 1e-10);
  EXPECT_NEAR(jacobs_loss(gate.log(), log_probs, labels).item<double>(), jacobs, 1e-10);
}

}  // namespace
}  // namespace moekit::nn
