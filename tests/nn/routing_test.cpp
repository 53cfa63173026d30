#include "moekit/nn/routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "moekit/core/error.h"
#include "moekit/nn/top_k.h"

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

TEST(Route, WeighsTheChosenAsItsKindSays) {
  torch::manual_seed(5);
  using W = CombineWeights;
  const auto logits = torch::randn({5, 4});
  const auto clean = torch::randn({5, 4});
  const auto probs = torch::softmax(logits, 1);
  for (const int64_t k : {1, 3, 4}) {
    const auto plain = route(logits, k);
    const auto index = plain.expert_index;
    const auto weight = [&](W kind, const torch::Tensor& without_noise = {}) {
      const auto routing = route(logits, k, kind, without_noise);
      EXPECT_TRUE(torch::equal(routing.expert_index, index));
      EXPECT_EQ(routing.takes_all, k == 4);
      EXPECT_EQ(routing.clean_logits.defined(), without_noise.defined());
      return routing.weight.view({5, k});
    };
    const auto near = [&](const torch::Tensor& got, const torch::Tensor& want) {
      EXPECT_TRUE(torch::allclose(got, want.gather(1, index), 1e-5, 1e-6)) << k;
    };
    near(weight(W::kProbs), probs);
    near(weight(W::kLogits), logits);
    near(weight(W::kCleanProbs), probs);
    near(weight(W::kCleanProbs, clean), torch::softmax(clean, 1));
    near(weight(W::kStraightThrough), torch::ones({5, 4}));
    const auto of_chosen = torch::softmax(logits.gather(1, index), 1);
    EXPECT_TRUE(torch::allclose(weight(W::kRenormalized), of_chosen, 1e-5, 1e-6));
    for (int64_t n = 0; n < 5; ++n) {
      for (int64_t i = 0; i < k; ++i) {
        EXPECT_EQ(plain.token[n * k + i].item<int64_t>(), n);
        EXPECT_EQ(plain.expert[n * k + i].item<int64_t>(), index[n][i].item<int64_t>());
      }
    }
  }
}

TEST(Route, ComputesInFloatAtLeastAndKeepsDouble) {
  for (const auto& [type, want] : {std::pair{torch::kBFloat16, torch::kFloat32},
                                   {torch::kFloat32, torch::kFloat32},
                                   {torch::kFloat64, torch::kFloat64}}) {
    const auto logits = torch::randn({3, 4}).to(type);
    const auto routing = route(logits, 2, CombineWeights::kCleanProbs, logits);
    for (const auto& tensor :
         {routing.logits, routing.probs, routing.weight, routing.clean_logits}) {
      EXPECT_EQ(tensor.scalar_type(), want);
    }
    const auto listed = route_assignments(logits, torch::tensor({1}, torch::kLong),
                                          torch::tensor({2}, torch::kLong), torch::ones({1}, want));
    EXPECT_EQ(listed.probs.scalar_type(), want);
    EXPECT_TRUE(torch::allclose(listed.probs, torch::softmax(logits.to(want), 1)));
  }
}

TEST(MakePlan, TakesAssignmentsInTheGivenOrderHoweverListsLieInMemory) {
  const auto logits = torch::zeros({3, 2});
  const auto pairs = torch::tensor({{0, 1}, {2, 1}, {1, 1}, {1, 0}}, torch::kLong);
  const auto routing =
      route_assignments(logits, pairs.select(1, 0), pairs.select(1, 1), torch::ones({4}));
  EXPECT_FALSE(routing.token.is_contiguous());
  const auto plan = make_plan(routing, 2);
  EXPECT_EQ(plan.offsets, (std::vector<int64_t>{0, 1, 3}));
  EXPECT_TRUE(torch::equal(plan_tokens(plan), torch::tensor({1, 0, 2}, torch::kLong)));
  EXPECT_TRUE(torch::equal(plan_assignments(plan), torch::tensor({3, 0, 1}, torch::kLong)));
  EXPECT_EQ(plan.dropped, (std::vector<int64_t>{0, 1}));
  const auto order = torch::tensor({{3, 9}, {2, 9}, {1, 9}, {0, 9}}, torch::kLong).select(1, 0);
  const auto turned = make_plan(routing, 2, order);
  EXPECT_EQ(turned.dropped, (std::vector<int64_t>{0, 1}));
  auto kept = std::get<0>(plan_assignments(turned).sort());
  EXPECT_TRUE(torch::equal(kept, torch::tensor({1, 2, 3}, torch::kLong)));
  const auto index = torch::tensor({{1, 0, 0}, {1, 1, 0}}, torch::kLong);
  const auto of_turned = make_plan(index.t(), 2);  // [3, 2]: 1, 1; 0, 1; 0, 0
  EXPECT_TRUE(
      torch::equal(plan_assignments(of_turned), torch::tensor({2, 4, 5, 0, 1, 3}, torch::kLong)));
  EXPECT_EQ(of_turned.num_tokens, 3);
}

TEST(Weighted, GivesRowsTheWeightsOfTheirAssignments) {
  const auto plan = make_plan(torch::tensor({{1, 0}, {0, 1}, {1, 0}}, torch::kLong), 2, 2);
  EXPECT_EQ(plan.num_rows(), 4);
  for (const float one : plan.weight) EXPECT_EQ(one, 1.0F);
  const auto weight =
      torch::tensor({0.5, 9.0, 1.5, 9.0, 2.5, 9.0, 3.5, 9.0, 4.5, 9.0, 5.5, 9.0}, torch::kFloat64)
          .view({6, 2})
          .requires_grad_()
          .select(1, 0);
  // Expert 0 has assignments 1 and 2, expert 1 has 0 and 3.
  EXPECT_EQ(weighted(plan, weight).weight, (std::vector<float>{1.5F, 2.5F, 0.5F, 3.5F}));
  EXPECT_EQ(weighted(plan, weight).token, plan.token);
}

TEST(Combine, IsAPlainLoopWithGradientsInTheirTypes) {
  torch::manual_seed(6);
  const auto index = torch::tensor({{2, 0}, {0, 1}, {2, 1}, {0, 2}}, torch::kLong);
  const auto plan = make_plan(index, 3, 2);
  for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
    const auto rows = torch::randn({plan.num_rows(), 5}).to(type).requires_grad_();
    const auto weight = torch::rand({8}).requires_grad_();
    const auto out = combine(rows, plan, weight);
    EXPECT_EQ(out.scalar_type(), type);
    auto want = torch::zeros({4, 5}, torch::kFloat64);
    const auto tokens = plan_tokens(plan);
    const auto assignments = plan_assignments(plan);
    for (int64_t r = 0; r < plan.num_rows(); ++r) {
      want[tokens[r].item<int64_t>()] += rows[r].detach().to(torch::kFloat64) *
                                         weight[assignments[r].item<int64_t>()].item<double>();
    }
    const double tolerance = type == torch::kBFloat16 ? 1e-2 : 1e-5;
    EXPECT_TRUE(torch::allclose(out.to(torch::kFloat64), want, tolerance, tolerance));
    out.sum().backward();
    EXPECT_EQ(rows.grad().scalar_type(), type);
    EXPECT_EQ(weight.grad().scalar_type(), torch::kFloat32);
    EXPECT_NEAR(rows.grad()[1][3].item<double>(),
                weight[assignments[1].item<int64_t>()].item<double>(), tolerance);
  }
}

TEST(ExpertCapacity, IsTheQuotientRoundedUpWithinOneAndAll) {
  EXPECT_EQ(expert_capacity(1, 21, 7), 3);
  EXPECT_EQ(expert_capacity(1, 22, 7), 4);
  EXPECT_EQ(expert_capacity(2, 21, 7), 6);
  EXPECT_EQ(expert_capacity(0.5, 30, 5), 3);
  EXPECT_EQ(expert_capacity(5, 20, 5), 20);
  EXPECT_EQ(expert_capacity(5.1, 20, 5), 20);
  EXPECT_EQ(expert_capacity(1, 0, 5), 1);
}

TEST(Top1Expert, IsOfTheLogitsAndTopKTakesAnyType) {
  const auto logits = torch::tensor({{1.0, 3.0, 2.0}, {5.0, 0.0, 5.0}});
  EXPECT_TRUE(torch::equal(top1_expert(route(logits, 2)), torch::tensor({1, 0}, torch::kLong)));
  for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kBFloat16, torch::kHalf}) {
    const auto turned = torch::tensor({{1.0, 5.0}, {3.0, 0.0}, {2.0, 5.0}}).to(type).t();
    EXPECT_TRUE(
        torch::equal(top_k_index(turned, 2), torch::tensor({{1, 2}, {0, 2}}, torch::kLong)));
  }
  EXPECT_EQ(top_k_index(logits, 0).sizes(), (std::vector<int64_t>{2, 0}));
  // Apart in double alone.
  const auto close = torch::tensor({{1.0, 1.0 + 1e-12}}, torch::kFloat64);
  EXPECT_EQ(top_k_index(close, 1).item<int64_t>(), 1);
}

}  // namespace
}  // namespace moekit::nn
