#include "moekit/metrics/routing_metrics.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {

torch::Tensor as_active(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<torch::Tensor> out;
  for (const auto& row : rows) out.push_back(torch::tensor(row, torch::kLong).to(torch::kBool));
  return torch::stack(out);
}

TEST(SampleEntropy, OfSureAndUndecidedRouters) {
  EXPECT_EQ(sample_entropy(torch::eye(3)), 0);
  EXPECT_NEAR(sample_entropy(torch::full({2, 8}, 0.125)), 3, 1e-9);
  EXPECT_EQ(sample_entropy(torch::zeros({0, 3})), 0);
  EXPECT_NEAR(top1_mass(torch::tensor({{0.75, 0.25}, {0.5, 0.5}})), 0.625, 1e-9);
}

TEST(Coactivation, IsTheShareOfTheOtherExpertsTokens) {
  // Tokens {0,1}, {0,1}, {0,2}.
  const auto active = as_active({{1, 1, 0, 0}, {1, 1, 0, 0}, {1, 0, 1, 0}});
  const auto c = coactivation(active);
  EXPECT_NEAR(c[1][0].item<double>(), 2.0 / 3, 1e-12);  // of 0's tokens, 1 is in two
  EXPECT_NEAR(c[0][1].item<double>(), 1, 1e-12);        // of 1's tokens, 0 is in all
  EXPECT_EQ(c[0][3].item<double>(), 0);                 // 3 is never active
  EXPECT_NEAR(coactivation_baseline(2, 4), 1.0 / 3, 1e-12);
  EXPECT_EQ(coactivation_baseline(1, 1), 0);
}

TEST(RouterSaturation, CountsSharedExpertsInAnyOrder) {
  const auto early = as_active({{1, 1, 0, 0}, {0, 0, 1, 1}});
  const auto late = as_active({{1, 1, 0, 0}, {1, 0, 1, 0}});
  EXPECT_NEAR(router_saturation(early, late), 0.75, 1e-12);
  // Tokens with other numbers of experts: 1 of 1 and 1 of 3; the one without any is left out.
  EXPECT_NEAR(router_saturation(as_active({{1, 1, 0}, {0, 0, 1}, {1, 0, 0}}),
                                as_active({{1, 0, 0}, {1, 1, 1}, {0, 0, 0}})),
              2.0 / 3, 1e-12);
  EXPECT_NEAR(router_saturation_baseline(2, 8), 0.25, 1e-12);
  EXPECT_THROW(router_saturation(early, late.slice(0, 0, 1)), ArgumentError);
}

TEST(RoutingRegret, IsZeroForTheBestExpertAndTheMeanForARandomOne) {
  const auto losses = torch::tensor({{1.0, 5.0}, {3.0, 2.0}});
  const auto best = routing_regret(losses, torch::tensor({0, 1}, torch::kLong));
  EXPECT_EQ(best.chosen, 0);
  EXPECT_NEAR(best.random, (1.0 + 1.5) / 2, 1e-12);
  EXPECT_NEAR(routing_regret(losses, torch::tensor({1, 0}, torch::kLong)).chosen, 2.5, 1e-12);
}

TEST(SubsetRetention, KeepsTheAccuracyWhenTheDomainsExpertIsKept) {
  // Expert 0 is right on everything and used for everything; expert 1 is always wrong.
  const auto probs = torch::tensor({{0.9, 0.1}, {0.8, 0.2}});
  const auto outputs =
      torch::log(torch::tensor({0.9, 0.1, 0.1, 0.9, 0.1, 0.9, 0.9, 0.1})).reshape({2, 2, 2});
  const auto labels = torch::tensor({0, 1}, torch::kLong);
  const auto all = torch::ones({2}, torch::kBool);
  const auto generator = at::detail::createCPUGenerator(1);
  const auto r = subset_retention(probs, outputs, labels, all, 1, generator);
  EXPECT_EQ(r.all, 1);
  EXPECT_EQ(r.kept, 1);
  EXPECT_NEAR(r.random, 0.5, 1e-12);
  EXPECT_EQ(subset_retention(probs, outputs, labels, ~all, 1, generator).all, 0);
  EXPECT_THROW(subset_retention(probs, outputs, labels, all, 3, generator), ArgumentError);
}

}  // namespace
}  // namespace moekit::metrics
