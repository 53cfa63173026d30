// Losses on routing held against plain loops, and what they refuse, word by word.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>

#include "moekit/nn/experts/zero_computation_experts.h"
#include "moekit/nn/losses/aux_loss.h"
#include "moekit/nn/losses/balance_loss.h"
#include "moekit/nn/losses/entropy_loss.h"
#include "moekit/nn/losses/importance_loss.h"
#include "moekit/nn/losses/load_loss.h"
#include "moekit/nn/losses/router_z_loss.h"
#include "moekit/nn/losses/sample_similarity_loss.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/tensor/generator.h"
#include "tests/support/refusal.h"

namespace moekit::nn {
namespace {

const std::string kLossTaken = "nothing was thrown";

double number(const torch::Tensor& t) { return t.item<double>(); }

torch::Tensor loss_normal(at::IntArrayRef sizes, uint64_t seed) {
  return torch::empty(sizes, torch::kFloat64).normal_(0, 1, tensor::make_generator(seed));
}

std::shared_ptr<LinearRouterImpl> loss_router(LinearRouterOptions options) {
  return std::make_shared<LinearRouterImpl>(std::move(options));
}

RoutedLayer loss_layer(std::shared_ptr<RouterImpl> router, std::shared_ptr<ExpertsImpl> experts) {
  return {"moe", std::move(router), std::move(experts), nullptr, nullptr};
}

/// `computing` experts that compute, and as many others.
std::shared_ptr<ExpertsImpl> partly_free(int64_t computing, int64_t free) {
  ZeroComputationOptions options;
  options.mlp = MlpExpertsOptions(5, 7, computing);
  options.constant_experts(0).copy_experts(free).zero_experts(0);
  return std::make_shared<ZeroComputationExpertsImpl>(options);
}

/// The mean of row values of each expert, times its share of assignments, times E.
double plain_balance(const torch::Tensor& values, const torch::Tensor& expert,
                     const std::vector<double>& weight) {
  double sum = 0;
  for (int64_t e = 0; e < values.size(1); ++e) {
    double count = 0;
    for (int64_t a = 0; a < expert.size(0); ++a) count += expert[a].item<int64_t>() == e;
    double mean = 0;
    for (int64_t n = 0; n < values.size(0); ++n) {
      mean += number(values[n][e]) / static_cast<double>(values.size(0));
    }
    sum += weight[static_cast<size_t>(e)] * count / static_cast<double>(expert.size(0)) * mean;
  }
  return sum * static_cast<double>(values.size(1));
}

TEST(LossRules, BalanceIsThatOfPlainLoops) {
  const auto logits = loss_normal({7, 4}, 1);
  const auto probs = torch::softmax(logits, 1);
  const auto expert = torch::tensor({0, 3, 3, 1, 3, 0, 0, 3, 1});
  EXPECT_NEAR(number(load_balance_loss(probs, expert)), plain_balance(probs, expert, {1, 1, 1, 1}),
              1e-12);
  EXPECT_NEAR(number(logit_balance_loss(logits, expert)),
              plain_balance(logits, expert, {1, 1, 1, 1}), 1e-12);
  const std::vector<double> weight = {1, 0.5, 2, 0.25};
  EXPECT_NEAR(number(weighted_balance_loss(probs, expert, torch::tensor(weight))),
              plain_balance(probs, expert, weight), 1e-7);
  const auto none = torch::empty({0}, torch::kLong);
  const auto leaf = probs.clone().requires_grad_();
  for (const auto& loss : {load_balance_loss(leaf, none), logit_balance_loss(leaf, none),
                           weighted_balance_loss(leaf, none, torch::ones({4}))}) {
    EXPECT_EQ(number(loss), 0);
    EXPECT_TRUE(loss.requires_grad());
  }
  // Where nothing was assigned, rows need be no probabilities.
  EXPECT_EQ(number(load_balance_loss(torch::zeros({2, 3}), none)), 0);
}

TEST(LossRules, BalanceRefusesShapesAndRows) {
  const auto expert = torch::zeros({2}, torch::kLong);
  const auto half = torch::full({2, 2}, 0.5);
  EXPECT_EQ(refusal([&] { load_balance_loss(half[0], expert); }),
            "load_balance_loss: probs must be [N, E] and expert [A]; got [2] and [2]");
  EXPECT_EQ(refusal([&] { load_balance_loss(half, expert.unsqueeze(0)); }),
            "load_balance_loss: probs must be [N, E] and expert [A]; got [2, 2] and [1, 2]");
  EXPECT_EQ(refusal([&] { logit_balance_loss(half[0], expert); }),
            "load_balance_loss: probs must be [N, E] and expert [A]; got [2] and [2]");
  const auto weighted_by = [&](const torch::Tensor& weight, const torch::Tensor& probs) {
    return refusal([&] { weighted_balance_loss(probs, expert, weight); });
  };
  EXPECT_EQ(weighted_by(torch::ones({2}), half), kLossTaken);
  EXPECT_EQ(weighted_by(torch::ones({3}), half),
            "weighted_balance_loss: weight must be [2]; got [3]");
  EXPECT_EQ(weighted_by(torch::ones({2, 1}), half),
            "weighted_balance_loss: weight must be [2]; got [2, 1]");
  EXPECT_EQ(weighted_by(torch::ones({2}), half[0]),
            "load_balance_loss: probs must be [N, E] and expert [A]; got [2] and [2]");
  const auto with_sum = [&](double sum) {
    return torch::tensor({{0.5, 0.5}, {0.25, sum - 0.25}}, torch::kFloat64);
  };
  const auto told = [&](double sum) {
    return refusal([&] { load_balance_loss(with_sum(sum), expert); });
  };
  const std::string wanted =
      "load_balance_loss: every row of probs must sum to 1 within 0.0078125; row 1 sums to ";
  EXPECT_EQ(told(1.0078125), kLossTaken);
  EXPECT_EQ(told(0.9921875), kLossTaken);
  EXPECT_EQ(told(1.015625), wanted + "1.01562 (were logits given?)");
  EXPECT_EQ(told(0.875), wanted + "0.875 (were logits given?)");
  EXPECT_EQ(told(std::numeric_limits<double>::quiet_NaN()), wanted + "nan (were logits given?)");
  EXPECT_EQ(weighted_by(torch::ones({2}), with_sum(0.5)), wanted + "0.5 (were logits given?)");
}

TEST(LossRules, BalanceWithinSequencesIsTheMeanOfTheirs) {
  // Sequences of 1, 3 and 2 tokens, not in order, two experts a token.
  auto routing = route(loss_normal({6, 5}, 2), 2);
  const std::vector<int64_t> of = {1, 0, 2, 1, 2, 1};
  routing.sequence = torch::tensor(of, torch::kLong);
  double want = 0;
  for (int64_t s = 0; s < 3; ++s) {
    std::vector<int64_t> own;
    for (int64_t n = 0; n < 6; ++n) {
      if (of[static_cast<size_t>(n)] == s) own.push_back(n);
    }
    const auto rows = torch::tensor(own, torch::kLong);
    want += plain_balance(routing.probs.index_select(0, rows),
                          routing.expert_index.index_select(0, rows).flatten(), {1, 1, 1, 1, 1}) /
            3;
  }
  EXPECT_NEAR(number(sequence_balance_loss(routing)), want, 1e-12);
  auto logits = routing;
  logits.probs = routing.logits;
  EXPECT_TRUE(refusal([&] {
                sequence_balance_loss(logits);
              }).starts_with("load_balance_loss: every row of probs must sum to 1"));
  auto flat = routing;
  flat.sequence = torch::Tensor();
  EXPECT_EQ(refusal([&] { sequence_balance_loss(flat); }),
            "sequence_balance_loss: wants the routing of tokens [B, T, D]; these came flat");
  auto none = route(torch::zeros({0, 5}).requires_grad_(), 2);
  none.sequence = torch::empty({0}, torch::kLong);
  EXPECT_EQ(number(sequence_balance_loss(none)), 0);
  EXPECT_TRUE(sequence_balance_loss(none).requires_grad());
}

TEST(LossRules, BalanceRefusesOptionsWithoutEffect) {
  const auto router = loss_router(LinearRouterOptions(5, 4).top_k(1));
  const LossSite site{{loss_layer(router, partly_free(3, 1))}};
  const auto told = [&](auto change, const LossSite& of) {
    BalanceLossOptions options;
    options.balance = 0.5;
    change(options);
    return refusal([&] { check_balance_loss(options, of, "loss"); });
  };
  using O = BalanceLossOptions;
  EXPECT_EQ(told([](O&) {}, site), kLossTaken);
  EXPECT_EQ(told([](O& o) { o.balance = 0; }, site), kLossTaken);
  EXPECT_EQ(told([](O& o) { o.balance_of = BalanceOf::kLogits; }, site), kLossTaken);
  EXPECT_EQ(told([](O& o) { o.count = BalanceCount::kFirst; }, site), kLossTaken);
  EXPECT_EQ(told([](O& o) { o.per_sequence = true; }, site), kLossTaken);
  EXPECT_EQ(told([](O& o) { o.tau = 0.5; }, site), kLossTaken);
  const std::string no_effect =
      "loss: balance_of, balance_count, balance_tau and balance_per_sequence have no effect while "
      "balance is 0";
  const auto without = [&](auto change) {
    return told(
        [&](O& o) {
          o.balance = 0;
          change(o);
        },
        site);
  };
  EXPECT_EQ(without([](O& o) { o.balance_of = BalanceOf::kLogits; }), no_effect);
  EXPECT_EQ(without([](O& o) { o.count = BalanceCount::kFirst; }), no_effect);
  EXPECT_EQ(without([](O& o) { o.per_sequence = true; }), no_effect);
  EXPECT_EQ(without([](O& o) { o.tau = 0.5; }), no_effect);
  const std::string with_probs =
      "loss.balance_tau goes with balance_of = \"probs\" over the whole batch";
  EXPECT_EQ(told(
                [](O& o) {
                  o.tau = 0.5;
                  o.balance_of = BalanceOf::kLogits;
                },
                site),
            with_probs);
  EXPECT_EQ(told(
                [](O& o) {
                  o.tau = 0.5;
                  o.per_sequence = true;
                },
                site),
            with_probs);
  EXPECT_EQ(told(
                [](O& o) {
                  o.per_sequence = true;
                  o.count = BalanceCount::kFirst;
                },
                site),
            "loss.balance_count: the balance within sequences counts all assignments");
  EXPECT_EQ(told(
                [](O& o) {
                  o.per_sequence = true;
                  o.balance_of = BalanceOf::kLogits;
                },
                site),
            "loss.balance_of: the balance within sequences is of probs");
  const auto tau = [](O& o) { o.tau = 0.5; };
  const auto plain = std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(5, 7, 4));
  EXPECT_EQ(told(tau, LossSite{{loss_layer(router, plain)}}),
            "loss.balance_tau: all experts of this model compute; wanted 1, or expert.kind = "
            "\"zero_computation\"");
  EXPECT_EQ(told(tau, LossSite{{loss_layer(router, partly_free(3, 1)),
                                loss_layer(router, partly_free(2, 2))}}),
            "balance_tau: layers have different numbers of experts that compute: 3 and, in moe, 2");
  EXPECT_EQ(told(tau, LossSite{{loss_layer(router, partly_free(3, 1)),
                                loss_layer(router, partly_free(3, 2))}}),
            kLossTaken);
  EXPECT_EQ(told([](O&) {}, LossSite{}),
            "loss.balance = 0.5: the model has no router that learns; wanted 0");
}

TEST(LossRules, LogitsAndProbabilitiesGiveWhatPlainLoopsGive) {
  const auto logits = loss_normal({6, 5}, 3) * 2;
  double entropy = 0, size = 0;
  std::vector<double> importance(5, 0);
  for (int64_t n = 0; n < 6; ++n) {
    double sum = 0;
    for (int64_t e = 0; e < 5; ++e) sum += std::exp(number(logits[n][e]));
    size += std::log(sum) * std::log(sum) / 6;
    for (int64_t e = 0; e < 5; ++e) {
      const double p = std::exp(number(logits[n][e])) / sum;
      entropy -= p * std::log(p) / 6;
      importance[static_cast<size_t>(e)] += p;
    }
  }
  double mean = 0, spread = 0;
  for (const double of : importance) mean += of / 5;
  for (const double of : importance) spread += (of - mean) * (of - mean) / 4;
  EXPECT_NEAR(number(entropy_loss(logits)), entropy, 1e-12);
  EXPECT_NEAR(number(router_z_loss(logits)), size, 1e-12);
  EXPECT_NEAR(number(importance_loss(torch::softmax(logits, 1))), spread / mean / mean, 1e-12);
  EXPECT_EQ(number(squared_variation(torch::tensor({3.0}))), 0);
  EXPECT_EQ(number(squared_variation(torch::zeros({0}))), 0);
  EXPECT_NEAR(number(squared_variation(torch::tensor({1.0, 3.0}))), 0.5, 1e-6);
  const auto zeros = torch::zeros({3}).requires_grad_();
  squared_variation(zeros).backward();
  EXPECT_EQ(number(zeros.grad().abs().sum()), 0);
  EXPECT_EQ(refusal([&] { entropy_loss(logits[0]); }),
            "entropy_loss: logits must be [N, E]; got [5]");
  EXPECT_EQ(refusal([&] { router_z_loss(logits[0]); }),
            "router_z_loss: logits must be [N, E]; got [5]");
  EXPECT_EQ(refusal([&] { importance_loss(logits[0]); }),
            "importance_loss: probs must be [N, E]; got [5]");
  // Sure of one expert: no entropy, and no gradient that is no number.
  const auto sure =
      torch::tensor({{0.0F, -std::numeric_limits<float>::infinity()}}).requires_grad_();
  entropy_loss(sure).backward();
  EXPECT_TRUE(torch::isfinite(sure.grad()).all().item<bool>());
  EXPECT_NEAR(number(entropy_loss(torch::tensor({{0.0, -1e3, 0.0}}))), std::log(2.0), 1e-6);
}

TEST(LossRules, LoadIsThatOfAPlainLoop) {
  const int64_t k = 2;
  const auto clean = loss_normal({4, 5}, 4).requires_grad_();
  const auto size = loss_normal({4, 5}, 5).abs().add(0.3).requires_grad_();
  auto routing = route(clean + loss_normal({4, 5}, 6) * size, k);
  routing.clean_logits = clean;
  routing.noise_std = size;
  std::vector<double> load(5, 0);
  for (int64_t n = 0; n < 4; ++n) {
    for (int64_t e = 0; e < 5; ++e) {
      std::vector<double> others;
      for (int64_t o = 0; o < 5; ++o) {
        if (o != e) others.push_back(number(routing.logits[n][o]));
      }
      std::sort(others.rbegin(), others.rend());
      const double z = (number(clean[n][e]) - others[k - 1]) / number(size[n][e]);
      load[static_cast<size_t>(e)] += 0.5 * std::erfc(-z / std::sqrt(2.0));
    }
  }
  double mean = 0, spread = 0;
  for (const double of : load) mean += of / 5;
  for (const double of : load) spread += (of - mean) * (of - mean) / 4;
  const auto loss = load_loss(routing);
  EXPECT_NEAR(number(loss), spread / mean / mean, 1e-9);
  loss.backward();
  EXPECT_GT(number(clean.grad().abs().sum()), 0);
  EXPECT_GT(number(size.grad().abs().sum()), 0);
  auto lacking = routing;
  lacking.noise_std = torch::Tensor();
  const std::string noise = "load_loss: needs a router with Gaussian noise, in training";
  EXPECT_EQ(refusal([&] { load_loss(lacking); }), noise);
  lacking = routing;
  lacking.clean_logits = torch::Tensor();
  EXPECT_EQ(refusal([&] { load_loss(lacking); }), noise);
  lacking = routing;
  lacking.expert_index = torch::Tensor();
  EXPECT_EQ(refusal([&] { load_loss(lacking); }),
            "load_loss: needs a router that sends every token to K experts");
  auto all = route(clean, 5);
  all.clean_logits = clean;
  all.noise_std = size;
  EXPECT_EQ(refusal([&] { load_loss(all); }), "load_loss: needs top_k < num_experts; got 5 of 5");
}

TEST(LossRules, LoadWantsNoiseAndAChoiceInEveryRouter) {
  using O = LinearRouterOptions;
  const auto noisy = O(5, 4).noise(RouterNoise::kGaussian);
  const auto told = [](double load, const std::vector<O>& routers) {
    LossSite site;
    site.layers.push_back(loss_layer(nullptr, nullptr));
    for (const auto& options : routers) {
      site.layers.push_back(loss_layer(loss_router(options), nullptr));
    }
    return refusal([&] { check_load_loss({load}, site, "loss"); });
  };
  const std::string wanted =
      "loss.load = 0.5 wants a router with noise = \"gaussian\" and a top_k below its number of "
      "experts";
  EXPECT_EQ(told(0.5, {O(noisy).top_k(3)}), kLossTaken);
  EXPECT_EQ(told(0.5, {O(noisy).top_k(4)}), wanted);
  EXPECT_EQ(told(0.5, {O(noisy).top_k(0)}), wanted);
  EXPECT_EQ(told(0.5, {O(5, 4).top_k(2)}), wanted);
  EXPECT_EQ(told(0.5, {O(noisy).top_k(3), O(5, 4).top_k(2)}), wanted);
  EXPECT_EQ(told(0, {O(5, 4).top_k(2)}), kLossTaken);
  EXPECT_EQ(told(0.5, {}), "loss.load = 0.5: the model has no router that learns; wanted 0");
}

TEST(LossRules, SimilarityIsOfDistancesAndRefusesOtherShapes) {
  const auto samples = loss_normal({5, 2, 3}, 7);
  const auto distance = pairwise_distance(samples.clone().requires_grad_());
  EXPECT_EQ(distance.scalar_type(), torch::kFloat64);
  EXPECT_FALSE(distance.requires_grad());
  for (int64_t n = 0; n < 5; ++n) {
    for (int64_t m = 0; m < 5; ++m) {
      EXPECT_NEAR(number(distance[n][m]), number((samples[n] - samples[m]).norm()), 1e-9);
    }
    EXPECT_EQ(number(distance[n][n]), 0);
  }
  EXPECT_EQ(pairwise_distance(torch::zeros({0, 3})).sizes().vec(), (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(pairwise_distance(samples.to(torch::kBFloat16)).scalar_type(), torch::kFloat32);
  const std::string wanted =
      "sample_similarity_loss: probs must be [N, E] and distance [N, N]; got ";
  const auto told = [&](const torch::Tensor& probs, const torch::Tensor& of) {
    return refusal([&] { sample_similarity_loss(probs, of, {1, 1}); });
  };
  const auto probs = torch::full({5, 2}, 0.5);
  EXPECT_EQ(told(probs, distance), kLossTaken);
  EXPECT_EQ(told(probs[0], distance), wanted + "[2] and [5, 5]");
  EXPECT_EQ(told(probs, distance[0]), wanted + "[5, 2] and [5]");
  EXPECT_EQ(told(probs, distance.slice(0, 0, 4)), wanted + "[5, 2] and [4, 5]");
  EXPECT_EQ(told(probs, distance.slice(1, 0, 4)), wanted + "[5, 2] and [5, 4]");
  const auto none = torch::zeros({0, 2}).requires_grad_();
  EXPECT_EQ(number(sample_similarity_loss(none, torch::zeros({0, 0}), {1, 1})), 0);
  const auto routing = route(loss_normal({5, 3}, 8), 1);
  SimilarityLossOptions options;
  EXPECT_FALSE(bool(make_similarity_loss(options, {}).value));
  for (const auto& [same, different] : {std::pair{0.5, 0.0}, std::pair{0.0, 0.25}}) {
    options.same = same;
    options.different = different;
    for (const bool relative : {false, true}) {
      options.relative = relative;
      const auto loss = make_similarity_loss(options, {});
      EXPECT_EQ(loss.name, "similarity");
      const auto of = relative ? distance / distance.max() : distance;
      EXPECT_NEAR(number(loss.value({routing, samples})),
                  number(sample_similarity_loss(routing.probs, of, {same, different})), 1e-12);
    }
  }
  options.relative = true;  // all images are one
  EXPECT_EQ(number(make_similarity_loss(options, {}).value({routing, torch::ones({5, 2})})), 0);
}

TEST(LossRules, SimilarityRefusesOptionsWithoutEffect) {
  const LossSite site{{loss_layer(loss_router(LinearRouterOptions(5, 4)), nullptr)}};
  const auto told = [&](double same, double different, SimilarityScale scale, bool relative,
                        const LossSite& of) {
    return refusal([&] { check_similarity_loss({same, different, scale, relative}, of, "loss"); });
  };
  const auto mean = SimilarityLossOptions{}.scale;
  const auto other =
      mean == SimilarityScale::kMean ? SimilarityScale::kReleased : SimilarityScale::kMean;
  EXPECT_EQ(told(0, 0, mean, false, site), kLossTaken);
  EXPECT_EQ(told(1, 0, other, true, site), kLossTaken);
  EXPECT_EQ(told(0, 1, other, true, site), kLossTaken);
  const std::string zero = " has no effect while similarity_same and similarity_different are 0";
  EXPECT_EQ(told(0, 0, other, false, site), "loss.similarity_scale" + zero);
  EXPECT_EQ(told(0, 0, mean, true, site), "loss.similarity_relative" + zero);
  const std::string learns = ": the model has no router that learns; wanted 0";
  EXPECT_EQ(told(1, 0, mean, false, {}), "loss.similarity_same = 1" + learns);
  EXPECT_EQ(told(0, 2, mean, false, {}), "loss.similarity_different = 2" + learns);
}

TEST(LossRules, ACoefficientIsRefusedWhereNothingLearns) {
  const auto oracle = std::make_shared<OracleRouterImpl>(OracleRouterOptions({{0}, {1}}));
  const auto linear = loss_router(LinearRouterOptions(5, 4));
  const LossSite told{{loss_layer(nullptr, nullptr), loss_layer(oracle, nullptr)}};
  const LossSite mixed{{loss_layer(oracle, nullptr), loss_layer(linear, nullptr)}};
  const std::string learns = " = 0.5: the model has no router that learns; wanted 0";
  EXPECT_EQ(refusal([&] { check_router_learns(0.5, told, "k"); }), "k" + learns);
  EXPECT_EQ(refusal([&] { check_router_learns(0, told, "k"); }), kLossTaken);
  EXPECT_EQ(refusal([&] { check_router_learns(0.5, mixed, "k"); }), kLossTaken);
  EXPECT_EQ(refusal([&] { check_entropy_loss({0.5}, told, "loss"); }), "loss.entropy" + learns);
  EXPECT_EQ(refusal([&] { check_importance_loss({0.5}, told, "loss"); }),
            "loss.importance" + learns);
  EXPECT_EQ(refusal([&] { check_router_z_loss({0.5}, told, "loss"); }), "loss.router_z" + learns);
  EXPECT_EQ(refusal([&] { check_load_loss({0.5}, told, "loss"); }), "loss.load" + learns);
}

TEST(LossRules, EachIsItsNameTimesItsCoefficient) {
  auto routing = route(loss_normal({6, 4}, 9), 2);
  routing.clean_logits = routing.logits;
  routing.noise_std = torch::ones({6, 4}, torch::kFloat64);
  const auto samples = torch::zeros({6, 1});
  const auto expect = [&](const AuxLoss& loss, const char* name, const torch::Tensor& whole) {
    EXPECT_EQ(loss.name, name);
    EXPECT_NEAR(number(loss.value({routing, samples})), 0.25 * number(whole), 1e-12) << name;
  };
  expect(make_balance_loss({0.25}, {}), "balance",
         load_balance_loss(routing.probs, routing.expert));
  expect(make_entropy_loss({0.25}, {}), "entropy", entropy_loss(routing.logits));
  expect(make_importance_loss({0.25}, {}), "importance", importance_loss(routing.probs));
  expect(make_load_loss({0.25}, {}), "load", load_loss(routing));
  expect(make_router_z_loss({0.25}, {}), "router_z", router_z_loss(routing.logits));
  EXPECT_FALSE(bool(make_router_z_loss({0}, {}).value));
  EXPECT_FALSE(
      bool(make_aux_loss("a", 0, [](const AuxLossInput&) { return torch::ones({}); }).value));
}

TEST(LossRules, ALossWithoutGradientIsRefusedAndARoutersOwnComesLast) {
  const auto constant = [](const char* name) {
    return make_aux_loss(name, 2, [](const AuxLossInput&) { return torch::full({}, 3.0); });
  };
  const auto samples = torch::zeros({2, 1});
  auto calm = route(loss_normal({2, 3}, 1));
  auto learning = route(loss_normal({2, 3}, 1).requires_grad_());
  EXPECT_EQ(refusal([&] {
              aux_losses({learning, samples}, {constant("idle")});
            }),
            "aux loss \"idle\" has a coefficient but gives the router no gradient");
  calm.penalty = [](const Routing& of) { return of.probs.sum(); };
  const auto terms = aux_losses({calm, samples}, {AuxLoss{"none", {}}, constant("idle")});
  ASSERT_EQ(terms.size(), 2U);
  EXPECT_EQ(terms[0].name, "idle");
  EXPECT_EQ(number(terms[0].value), 6);
  EXPECT_EQ(terms[1].name, "penalty");
  EXPECT_NEAR(number(terms[1].value), 2, 1e-12);
}

TEST(LossRules, ARouterThatOnlyLossesTrainWantsOne) {
  const auto alone = loss_router(LinearRouterOptions(5, 4).top_k(1).aux_only(true));
  const auto common = loss_router(LinearRouterOptions(5, 4));
  const LossSite site{
      {loss_layer(nullptr, nullptr), loss_layer(common, nullptr), loss_layer(alone, nullptr)}};
  const auto told = [&](const std::vector<AuxLoss>& losses) {
    return refusal([&] { check_aux_only(site, losses); });
  };
  const std::string wanted =
      "layer \"moe\": aux_only = true wants a loss on routing, of which the recipe has none: "
      "nothing would train this router";
  EXPECT_EQ(told({}), wanted);
  EXPECT_EQ(told({AuxLoss{"none", {}}}), wanted);
  EXPECT_EQ(told({AuxLoss{"none", {}}, make_router_z_loss({1}, {})}), kLossTaken);
  alone->bias.requires_grad_(false);
  EXPECT_EQ(told({}), wanted);  // the other one still learns
  alone->weight.requires_grad_(false);
  EXPECT_EQ(told({}), kLossTaken);
}

}  // namespace
}  // namespace moekit::nn
