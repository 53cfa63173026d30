#include "moekit/nn/capacity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "moekit/core/error.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"

namespace moekit::nn {
namespace {

constexpr int64_t kThree = 3;
using Capacities = std::vector<int64_t>;

/// Four tokens that are their own logits. Choices: 0, 1; 1, 0; 0, 2; 2, 0: expert 0 is wanted by
/// all, with weights 0.367, 0.463, 0.934 and 0.242, the others by two each.
torch::Tensor four_tokens() {
  return torch::tensor({{0.3, 0.2, 0.1}, {2.9, 3.0, 0.1}, {4.0, 0.1, 1.0}, {1.0, 0.1, 2.0}},
                       torch::kFloat32);
}

/// Expert e gives (e + 1) times its token: hidden layer and router are the identity.
MoE make_capped(const CapacityOptions& capacity, bool fused) {
  auto router = std::make_shared<LinearRouterImpl>(LinearRouterOptions(kThree, kThree)
                                                       .top_k(2)
                                                       .bias(false)
                                                       .combine_weights(CombineWeights::kProbs));
  auto experts =
      std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(kThree, kThree, kThree).bias(false));
  const torch::NoGradGuard no_grad;
  router->weight.copy_(torch::eye(kThree));
  for (int64_t e = 0; e < kThree; ++e) {
    experts->up_proj[e].copy_(torch::eye(kThree));
    experts->down_proj[e].copy_(torch::eye(kThree) * static_cast<double>(e + 1));
  }
  return MoE(router, experts, MoEOptions().capacity(capacity).fused(fused));
}

/// The layer's output where expert 0 keeps `of_first` alone, token by token.
torch::Tensor by_hand(const std::set<int64_t>& of_first, bool renormalize) {
  const auto x = four_tokens();
  const int64_t choices[4][2] = {{0, 1}, {1, 0}, {0, 2}, {2, 0}};
  auto out = torch::zeros({4, kThree});
  for (int64_t n = 0; n < 4; ++n) {
    double mass = 0;
    double kept = 0;
    double factor = 0;
    const auto p = torch::softmax(x[n], 0);
    for (const int64_t e : choices[n]) {
      const double weight = p[e].item<double>();
      mass += weight;
      if (e == 0 && of_first.count(n) == 0) continue;
      kept += weight;
      factor += weight * static_cast<double>(e + 1);
    }
    out[n] = x[n] * factor * (renormalize ? mass / kept : 1.0);
  }
  return out;
}

TEST(Capacity, TakesTheFirstTokensTheFirstChoicesOrTheLargestWeights) {
  const std::pair<CapacityPriority, std::set<int64_t>> cases[] = {
      {CapacityPriority::kOrder, {0, 1}},
      {CapacityPriority::kRank, {0, 2}},
      {CapacityPriority::kWeight, {1, 2}}};
  for (const auto& [priority, kept] : cases) {
    for (const bool fused : {true, false}) {
      for (const bool renormalize : {true, false}) {
        CapacityOptions options;
        options.factor = 0.75;  // ceil(0.75 * 8 / 3) = 2
        options.priority = priority;
        options.renormalize = renormalize;
        auto layer = make_capped(options, fused);
        EXPECT_EQ(layer->why_not_fused(four_tokens()).empty(), fused);
        const auto output = layer->forward_with_routing(four_tokens());
        EXPECT_EQ(output.plan.dropped, (std::vector<int64_t>{2, 0, 0}));
        EXPECT_TRUE(torch::allclose(output.values, by_hand(kept, renormalize), 1e-5, 1e-6))
            << enum_name(priority) << fused << renormalize;
      }
    }
  }
}

TEST(Capacity, RenormalizedWeightsKeepTheirGradient) {
  // Against finite differences: the sums over a token's weights are part of the function.
  CapacityOptions options;
  options.factor = 0.75;
  options.renormalize = true;
  for (const bool fused : {true, false}) {
    auto layer = make_capped(options, fused);
    auto& weight = std::dynamic_pointer_cast<LinearRouterImpl>(layer->router)->weight;
    const auto loss = [&] { return layer->forward(four_tokens()).square().sum(); };
    loss().backward();
    const torch::NoGradGuard no_grad;
    for (int64_t i = 0; i < kThree; ++i) {
      const double before = weight[i][0].item<double>();
      weight[i][0] = before + 1e-2;
      const double up = loss().item<double>();
      weight[i][0] = before - 1e-2;
      const double down = loss().item<double>();
      weight[i][0] = before;
      const double want = (up - down) / 2e-2;
      EXPECT_NEAR(weight.grad()[i][0].item<double>(), want, 1e-2 * std::abs(want) + 2e-2);
    }
  }
}

TEST(Capacity, HasAFactorOfItsOwnForEvaluation) {
  CapacityOptions options;
  options.factor = 0.75;
  auto layer = make_capped(options, true);
  const auto dropped = [&] {
    return layer->forward_with_routing(four_tokens()).plan.num_dropped();
  };
  layer->eval();
  EXPECT_EQ(dropped(), 2);  // as in training
  options.eval_factor = 0;
  layer->options.capacity(options);
  EXPECT_EQ(dropped(), 0);
  options.eval_factor = 0.375;  // one each
  layer->options.capacity(options);
  EXPECT_EQ(dropped(), 5);
  layer->train();
  EXPECT_EQ(dropped(), 2);
}

TEST(Capacity, IsAtLeastTheMinimumAndAtMostTheTokens) {
  const auto routing = route(four_tokens(), 2);
  CapacityOptions options;
  const auto capacity = [&] { return capacity_of(options, true, routing, 3); };
  EXPECT_EQ(capacity(), Capacities{});
  options.factor = 0.1;  // ceil(0.1 * 8 / 3) = 1
  EXPECT_EQ(capacity(), Capacities{1});
  options.least = 3;
  EXPECT_EQ(capacity(), Capacities{3});
  options.least = 100;
  EXPECT_EQ(capacity(), Capacities{4});
  options.least = 1;
  options.factor = 1e18;
  EXPECT_EQ(capacity(), Capacities{4});
  EXPECT_EQ(capacity_of(options, true, route(torch::zeros({0, 3}), 2), 3), Capacities{1});
}

TEST(Capacity, OfExpertsThatComputeIsTauTimesThatOfTheOthers) {
  const auto routing = route(torch::randn({100, 6}), 2);  // 200 assignments
  CapacityOptions options;
  options.factor = 1.1;
  options.tau = 0.25;  // 220 / (0.25 * 4 + 2) = 73.3 and a quarter of it, 18.3
  EXPECT_EQ(capacity_of(options, true, routing, 4), (Capacities{19, 19, 19, 19, 74, 74}));
  options.eval_factor = 0;
  EXPECT_EQ(capacity_of(options, false, routing, 4), Capacities{});
  options.factor = 3;  // 200 and 50 of 100 tokens
  EXPECT_EQ(capacity_of(options, true, routing, 4), (Capacities{50, 50, 50, 50, 100, 100}));
  options.least = 60;
  EXPECT_EQ(capacity_of(options, true, routing, 4), (Capacities{60, 60, 60, 60, 100, 100}));
  options.tau = 4;  // the cheap ones take less: 600 / 18 = 33.3
  options.least = 1;
  EXPECT_EQ(capacity_of(options, true, routing, 4), (Capacities{100, 100, 100, 100, 34, 34}));
  EXPECT_NO_THROW(check_capacity(options, 2, 1, ""));
}

TEST(Capacity, RanksChoicesByLogitsWhereATokenGoesToAll) {
  // The list has expert 0 first for both tokens; the second token likes it least.
  const auto routing = route(torch::tensor({{1.0, 2.0}, {3.0, 0.0}}));
  const auto order = capacity_order(CapacityPriority::kRank, routing);
  // First choices: token 0 -> 1 (assignment 1), token 1 -> 0 (assignment 2).
  EXPECT_TRUE(torch::equal(order, torch::tensor({1, 2, 0, 3}, torch::kLong)));
  EXPECT_FALSE(capacity_order(CapacityPriority::kOrder, routing).defined());
}

TEST(Capacity, EqualWeightsGoByTheList) {
  const auto routing = route(torch::zeros({5, 2}), 1, CombineWeights::kProbs);
  const auto order = capacity_order(CapacityPriority::kWeight, routing);
  EXPECT_TRUE(torch::equal(order, torch::arange(5, torch::kLong)));
}

TEST(Capacity, RefusesWhatIsImpossibleOrWithoutEffect) {
  const auto refused = [](const std::string& key, auto change) {
    CapacityOptions options;
    options.factor = 1;
    change(options);
    try {
      check_capacity(options, 2, 0, "model.");
      ADD_FAILURE() << key;
    } catch (const ArgumentError& error) {
      EXPECT_NE(std::string(error.what()).find("model." + key), std::string::npos) << error.what();
    }
  };
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double wrong : {-1.0, infinity, std::nan("")}) {
    refused("capacity_factor", [&](CapacityOptions& o) { o.factor = wrong; });
  }
  for (const double wrong : {-0.5, infinity, -infinity, std::nan("")}) {
    refused("eval_capacity_factor", [&](CapacityOptions& o) { o.eval_factor = wrong; });
  }
  refused("min_capacity", [](CapacityOptions& o) { o.least = 0; });
  refused("min_capacity", [](CapacityOptions& o) { o.factor = 0, o.least = 2; });
  refused("min_capacity", [](CapacityOptions& o) { o.factor = 0, o.renormalize = true; });
  refused("min_capacity", [](CapacityOptions& o) {
    o.factor = o.eval_factor = 0;
    o.priority = CapacityPriority::kRank;
  });
  check_capacity({}, 1, 0, "model.");
  CapacityOptions one_choice;
  one_choice.factor = 1;
  one_choice.renormalize = true;
  EXPECT_THROW(check_capacity(one_choice, 1, 0, "model."), ArgumentError);
  EXPECT_NO_THROW(check_capacity(one_choice, 0, 0, "model."));
  CapacityOptions endless;
  endless.factor = infinity;
  EXPECT_THROW(make_capped(endless, true), ArgumentError);
}

TEST(Capacity, RenormalizationRefusesANegativeWeightByName) {
  auto routing = route(torch::tensor({{1.0, 2.0}, {-3.0, -1.0}}), 1, CombineWeights::kLogits);
  const auto plan = make_plan(routing, 1);
  try {
    renormalize_kept(routing.weight, routing, plan);
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_NE(std::string(error.what()).find("token 1 has -1"), std::string::npos) << error.what();
  }
}

TEST(Capacity, RenormalizedWeightsSumToWhatAllOfATokensDid) {
  // Expert 0 takes two of four: tokens 0 and 1. Token 2 loses one of its two, token 3 both.
  const auto logits = torch::zeros({4, 3});
  const auto token = torch::tensor({0, 1, 2, 2, 3, 3}, torch::kLong);
  const auto expert = torch::tensor({0, 0, 0, 1, 0, 0}, torch::kLong);
  const auto weight =
      torch::tensor({0.5, 2.0, 3.0, 1.0, 0.25, 0.125}, torch::kFloat64).requires_grad_();
  const auto routing = route_assignments(logits, token, expert, weight);
  const auto plan = make_plan(routing, 2);
  EXPECT_EQ(plan.num_dropped(), 3);
  const auto kept = renormalize_kept(weight, routing, plan);
  EXPECT_TRUE(
      torch::allclose(kept, torch::tensor({0.5, 2.0, 12.0, 4.0, 0.25, 0.125}, torch::kFloat64)));
  kept[3].backward();  // w_3 (w_2 + w_3) / w_3 = w_2 + w_3
  EXPECT_TRUE(torch::allclose(weight.grad(),
                              torch::tensor({0.0, 0.0, 1.0, 1.0, 0.0, 0.0}, torch::kFloat64)));
  // A weight of zero that stays cannot be made larger.
  const auto nothing = torch::tensor({0.5, 2.0, 3.0, 0.0, 0.25, 0.125});
  EXPECT_TRUE(torch::equal(renormalize_kept(nothing, routing, plan), nothing));
}

TEST(Capacity, OrdersAssignmentsOfAnyListByChoiceOrWeight) {
  const auto logits = torch::zeros({3, 3});
  const auto pairs = torch::tensor({{1, 2}, {0, 1}, {1, 0}, {2, 2}, {1, 1}, {0, 0}}, torch::kLong);
  const auto weight = torch::tensor({0.1F, 0.4F, 0.4F, 0.9F, 0.2F, 0.5F});
  const auto routing = route_assignments(logits, pairs.select(1, 0), pairs.select(1, 1), weight);
  EXPECT_TRUE(torch::equal(capacity_order(CapacityPriority::kRank, routing),
                           torch::tensor({0, 1, 3, 2, 5, 4}, torch::kLong)));
  EXPECT_TRUE(torch::equal(capacity_order(CapacityPriority::kWeight, routing),
                           torch::tensor({3, 5, 1, 2, 4, 0}, torch::kLong)));
  EXPECT_FALSE(capacity_order(CapacityPriority::kOrder, routing).defined());
  // Of three experts: token 0 likes 2, 0, 1 and token 1 likes 1, 2, 0.
  const auto all = route(torch::tensor({{2.0, 1.0, 3.0}, {0.0, 5.0, 1.0}}));
  EXPECT_TRUE(torch::equal(capacity_order(CapacityPriority::kRank, all),
                           torch::tensor({2, 4, 0, 5, 1, 3}, torch::kLong)));
}

TEST(Capacity, IsThatOfTrainingOrOfEvaluation) {
  const auto routing = route(torch::randn({20, 5}), 2);
  CapacityOptions options;
  options.factor = 0.5;        // 4
  options.eval_factor = 1.25;  // 10
  EXPECT_EQ(capacity_of(options, true, routing, 5), Capacities{4});
  EXPECT_EQ(capacity_of(options, false, routing, 5), Capacities{10});
  options.eval_factor = -1;
  EXPECT_EQ(capacity_of(options, false, routing, 5), Capacities{4});
  options.eval_factor = 0;
  EXPECT_EQ(capacity_of(options, false, routing, 5), Capacities{});
  options.factor = 0;
  options.least = 3;
  EXPECT_EQ(capacity_of(options, true, routing, 5), Capacities{});
}

}  // namespace
}  // namespace moekit::nn
