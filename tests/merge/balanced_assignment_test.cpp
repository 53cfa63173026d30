// Here and not beside the function, for the exact solver it is held against.
#include "moekit/nn/balanced_assignment.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/merge/linear_assignment.h"
#include "moekit/nn/routers/base_router.h"
#include "moekit/tensor/generator.h"

namespace moekit::merge {
namespace {

double sum_of(const torch::Tensor& scores, const torch::Tensor& expert) {
  return scores.gather(1, expert.unsqueeze(1)).sum().item<double>();
}

TEST(BalancedAssignment, EveryExpertGetsAsManyAndTheSumIsNearlyTheBest) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    constexpr int64_t kTokens = 32;
    constexpr int64_t kExperts = 4;
    auto scores = torch::empty({kTokens, kExperts}).normal_(0, 1, tensor::make_generator(seed));
    if (seed % 2 == 0) scores.select(1, 0).add_(3);  // all want one
    const auto expert = nn::balanced_assignment(scores);
    const auto load = torch::bincount(expert, {}, kExperts);
    EXPECT_TRUE(load.eq(kTokens / kExperts).all().item<bool>()) << load;
    // Exactly: every expert as eight columns.
    const auto cost = (-scores).repeat_interleave(kTokens / kExperts, 1).contiguous();
    double best = 0;
    const auto column = assign(cost.data_ptr<float>(), kTokens);
    for (int64_t t = 0; t < kTokens; ++t) {
      best -= cost[t][column[static_cast<size_t>(t)]].item<double>();
    }
    const double range = (scores.max() - scores.min()).item<double>();
    EXPECT_LE(sum_of(scores, expert), best + 1e-5);
    EXPECT_GE(sum_of(scores, expert), best - kTokens * range / 50) << seed;
  }
}

TEST(BalancedAssignment, TakesEqualScoresAndNumbersThatAreNone) {
  const auto even = [](const torch::Tensor& scores) {
    const auto load = torch::bincount(nn::balanced_assignment(scores), {}, scores.size(1));
    return load.eq(scores.size(0) / scores.size(1)).all().item<bool>();
  };
  EXPECT_TRUE(even(torch::zeros({12, 3})));
  auto broken = torch::randn({12, 3});
  broken[3][1] = std::nan("");
  broken[5].fill_(-std::numeric_limits<float>::infinity());
  EXPECT_TRUE(even(broken));
  EXPECT_TRUE(even(torch::full({6, 2}, std::nan(""))));
  EXPECT_EQ(nn::balanced_assignment(torch::randn({0, 3})).numel(), 0);
  EXPECT_TRUE(even(torch::randn({5, 1})));
  EXPECT_THROW(nn::balanced_assignment(torch::randn({7, 3})), ArgumentError);
}

TEST(BaseRouter, DealsOutInTrainingAndTakesTheBestElsewhere) {
  nn::BaseRouter router(nn::BaseRouterOptions(6, 3));
  const auto rows = router->weight.detach();
  EXPECT_TRUE(torch::allclose(rows.mm(rows.t()), torch::eye(3) * 0.01, 1e-4, 1e-6));
  const auto x = torch::randn({12, 6}) + 2 * rows[1] / 0.1;  // all want expert 1
  const auto best = router->forward(x, {});
  EXPECT_TRUE(torch::equal(best.expert, x.mm(rows.t()).argmax(1)));
  nn::RouterContext context;
  context.training = true;
  const auto dealt = router->forward(x, context);
  EXPECT_TRUE(torch::bincount(dealt.expert, {}, 3).eq(4).all().item<bool>());
  EXPECT_TRUE(torch::allclose(
      dealt.weight,
      torch::sigmoid(x.mm(rows.t()).gather(1, dealt.expert.unsqueeze(1)).squeeze(1))));
  EXPECT_TRUE(torch::equal(dealt.expert_index, dealt.expert.unsqueeze(1)));
  EXPECT_EQ(dealt.top_k(), 1);
  dealt.weight.sum().backward();
  EXPECT_GT(router->weight.grad().abs().sum(1).min().item<double>(), 0);
  EXPECT_THROW(router->forward(torch::randn({10, 6}), context), ArgumentError);
}

}  // namespace
}  // namespace moekit::merge
