#include "moekit/nn/routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

TEST(Route, TakesTheSoftmaxOverTheChosenLogitsOrOverAll) {
  const auto logits = torch::log(torch::tensor({{0.5, 0.3, 0.2}}));
  const auto renormalized = route(logits, 2, CombineWeights::kRenormalized);
  EXPECT_EQ(renormalized.expert_index[0][1].item<int64_t>(), 1);
  EXPECT_NEAR(renormalized.weight[0].item<double>(), 0.625, 1e-6);
  const auto probs = route(logits, 2, CombineWeights::kProbs);
  EXPECT_NEAR(probs.weight[1].item<double>(), 0.3, 1e-6);
}

TEST(Route, ChoosesAllExpertsForTopKZeroAndE) {
  const auto logits = torch::randn({4, 3});
  for (const int64_t k : {0, 3}) {
    const auto routing = route(logits, k);
    EXPECT_EQ(routing.top_k(), 3);
    EXPECT_TRUE(torch::equal(routing.weight, routing.probs.flatten()));
    EXPECT_TRUE(routing.takes_all);
  }
  EXPECT_THROW(route(logits, 4), ArgumentError);
  EXPECT_THROW(route(logits, -1), ArgumentError);
  EXPECT_EQ(route(torch::zeros({0, 3}), 1).expert_index.size(0), 0);
}

TEST(Route, TakesTheLowestIndexOfEqualLogits) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
    const auto logits = torch::zeros({3, 64}, dtype);
    const auto routing = route(logits, 4);
    EXPECT_TRUE(torch::equal(routing.expert_index, torch::arange(4, torch::kLong).expand({3, 4})));
    EXPECT_TRUE(torch::equal(top1_expert(routing), torch::zeros({3}, torch::kLong)));
  }
  // Apart in float32, equal in bfloat16, which has three digits.
  const auto close = torch::tensor({{1.0F, 1.001F}});
  EXPECT_EQ(route(close, 1).expert.item<int64_t>(), 1);
  EXPECT_EQ(route(close.to(torch::kBFloat16), 1).expert.item<int64_t>(), 0);
}

TEST(Top1Expert, IsTheFirstChoiceAlsoWhereTheSoftmaxRoundsToATie) {
  const auto routing = route(torch::tensor({{0.0F, 1e-9F}}), 1);
  EXPECT_EQ(routing.probs[0][0].item<float>(), routing.probs[0][1].item<float>());
  EXPECT_EQ(routing.expert.item<int64_t>(), 1);
  EXPECT_EQ(top1_expert(routing).item<int64_t>(), 1);
}

TEST(WhyNoGradient, IsEmptyJustWhereTheWeightsHaveOne) {
  torch::manual_seed(4);
  for (const int64_t experts : {1, 2, 4}) {
    for (int64_t k = 0; k <= experts; ++k) {
      for (const auto weights : {CombineWeights::kProbs, CombineWeights::kRenormalized,
                                 CombineWeights::kCleanProbs, CombineWeights::kLogits}) {
        const auto logits = torch::randn({5, experts}).requires_grad_();
        const auto routing = route(logits, k, weights);
        (routing.weight * torch::randn({routing.num_assignments()})).sum().backward();
        EXPECT_EQ(why_no_gradient(k, experts, weights).empty(),
                  logits.grad().ne(0).any().item<bool>())
            << experts << " " << k << " " << enum_name(weights);
      }
    }
  }
}

TEST(Route, ListsTheAssignmentsTokenByToken) {
  const auto routing = route(torch::tensor({{1.0, 3.0, 2.0}, {9.0, 0.0, 5.0}}), 2);
  EXPECT_TRUE(torch::equal(routing.token, torch::tensor({0, 0, 1, 1}, torch::kLong)));
  EXPECT_TRUE(torch::equal(routing.expert, torch::tensor({1, 2, 0, 2}, torch::kLong)));
  EXPECT_FALSE(routing.takes_all);
}

TEST(RouteAssignments, TakesAnyNumberOfExpertsAToken) {
  const auto logits = torch::zeros({3, 2});
  // Token 0 to both experts, token 1 to none, token 2 to expert 1.
  const auto routing =
      route_assignments(logits, torch::tensor({0, 2, 0}, torch::kLong),
                        torch::tensor({1, 1, 0}, torch::kLong), torch::tensor({0.5F, 1.0F, 2.0F}));
  EXPECT_EQ(routing.top_k(), 0);
  EXPECT_EQ(routing.num_assignments(), 3);
  const auto plan = make_plan(routing);
  EXPECT_EQ(plan.offsets, (std::vector<int64_t>{0, 1, 3}));
  EXPECT_EQ(plan.token, (std::vector<int32_t>{0, 0, 2}));
  const auto out = combine(torch::ones({3, 1}), plan, routing.weight);
  EXPECT_TRUE(torch::equal(out, torch::tensor({{2.5F}, {0.0F}, {1.0F}})));
  EXPECT_THROW(route_assignments(logits, routing.token, routing.expert.slice(0, 1), routing.weight),
               ArgumentError);
  const auto outside = route_assignments(logits, torch::tensor({3}, torch::kLong),
                                         torch::tensor({0}, torch::kLong), torch::ones({1}));
  EXPECT_THROW(make_plan(outside), ArgumentError);
}

TEST(MakePlan, GroupsAssignmentsByExpertInTokenOrder) {
  const auto index = torch::tensor({{2, 0}, {0, 1}, {2, 1}}, torch::kLong);
  const auto plan = make_plan(index, 4);
  EXPECT_EQ(plan.offsets, (std::vector<int64_t>{0, 2, 4, 6, 6}));
  EXPECT_TRUE(
      torch::equal(plan_assignments(plan), torch::tensor({1, 2, 3, 5, 0, 4}, torch::kLong)));
  EXPECT_TRUE(torch::equal(plan_tokens(plan), torch::tensor({0, 1, 1, 2, 0, 2}, torch::kLong)));
  EXPECT_EQ(plan.num_dropped(), 0);
}

TEST(MakePlan, DropsWhatIsBeyondTheCapacityAndCountsIt) {
  const auto index = torch::tensor({0, 0, 1, 0, 0}, torch::kLong).unsqueeze(1);
  const auto plan = make_plan(index, 2, 2);
  EXPECT_EQ(plan.offsets, (std::vector<int64_t>{0, 2, 3}));
  EXPECT_EQ(plan.dropped, (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(plan.num_dropped(), 2);
  EXPECT_TRUE(torch::equal(plan_tokens(plan), torch::tensor({0, 1, 2}, torch::kLong)));
}

TEST(MakePlan, RefusesAnExpertThatDoesNotExist) {
  EXPECT_THROW(make_plan(torch::tensor({{0}, {3}}, torch::kLong), 3), ArgumentError);
  EXPECT_THROW(make_plan(torch::tensor({{-1}}, torch::kLong), 3), ArgumentError);
  EXPECT_THROW(make_plan(torch::zeros({2, 1}), 3), ArgumentError);
}

TEST(ExpertCapacity, RoundsUpAndIsAtLeastOne) {
  EXPECT_EQ(expert_capacity(1.0, 20, 8), 3);
  EXPECT_EQ(expert_capacity(0.01, 10, 8), 1);
  EXPECT_EQ(expert_capacity(0, 10, 8), 0);
  EXPECT_EQ(expert_capacity(1.1, 50, 1), 50);    // as many as there are
  EXPECT_EQ(expert_capacity(1.1, 500, 10), 55);  // the product of doubles is above 55
  EXPECT_EQ(expert_capacity(1e18, 10, 8), 10);
  for (const double wrong : {-1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
    EXPECT_THROW(expert_capacity(wrong, 10, 8), ArgumentError) << wrong;
  }
}

TEST(Combine, UndoesDispatchAndGivesZerosToDroppedTokens) {
  const auto tokens = torch::randn({4, 3});
  const auto index = torch::zeros({4, 1}, torch::kLong);
  const auto weight = torch::tensor({1.0F, 2.0F, 3.0F, 4.0F}).requires_grad_();
  const auto plan = make_plan(index, 2, 3);
  const auto out = combine(dispatch(tokens, plan), plan, weight);
  EXPECT_TRUE(torch::allclose(out[1], tokens[1] * 2));
  EXPECT_EQ(out[3].abs().sum().item<float>(), 0.0F);
  out.sum().backward();
  EXPECT_EQ(weight.grad()[3].item<float>(), 0.0F);
  EXPECT_NEAR(weight.grad()[0].item<float>(), tokens[0].sum().item<float>(), 1e-5);
}

}  // namespace
}  // namespace moekit::nn
