#include "moekit/train/joined_losses.h"

#include <gtest/gtest.h>

#include "moekit/nn/losses/balance_loss.h"

namespace moekit::train {
namespace {

/// Two tokens that both go to one of two experts with probability 0.9.
nn::LayerRouting tokens_of(int64_t expert, bool with_graph) {
  auto logits = expert == 0 ? torch::tensor({{0.9, 0.1}, {0.9, 0.1}}).log()
                            : torch::tensor({{0.1, 0.9}, {0.1, 0.9}}).log();
  logits = logits.requires_grad_(with_graph);
  auto routing = nn::route(logits, 1, nn::CombineWeights::kProbs);
  routing.sequence = torch::zeros({2}, torch::kLong);
  return {"moe", routing, torch::zeros({2, 3}), 0};
}

double value_of(const JoinedLosses& joined) { return joined.terms()[0][0].value.item<double>(); }

TEST(JoinedLosses, BalanceIsThatOfTheWholeBatch) {
  const std::vector<std::vector<nn::LayerRouting>> parts = {{tokens_of(0, false)},
                                                            {tokens_of(1, false)}};
  const JoinedLosses joined(parts, {nn::make_balance_loss({1.0, false}, {})});
  // Together f = P = [1/2, 1/2]: 1. Part by part it would be 2 * 0.9 each.
  EXPECT_NEAR(value_of(joined), 1.0, 1e-6);
  EXPECT_NEAR(value_of(JoinedLosses({parts[0]}, {nn::make_balance_loss({1.0, false}, {})})), 1.8,
              1e-6);
  // With equal loads it pulls at no logit, though each part alone is as unbalanced as can be.
  const auto layer = tokens_of(0, true);
  joined.pull_back(0, {layer}).backward();
  EXPECT_LT(layer.routing.logits.grad().abs().max().item<double>(), 1e-6);
}

TEST(JoinedLosses, SequencesOfTwoPartsAreDifferentOnes) {
  const std::vector<std::vector<nn::LayerRouting>> parts = {{tokens_of(0, false)},
                                                            {tokens_of(1, false)}};
  const JoinedLosses joined(parts, {nn::make_balance_loss({1.0, true}, {})});
  EXPECT_NEAR(value_of(joined), 1.8, 1e-6);
  EXPECT_TRUE(
      torch::equal(joined.layers()[0].routing.sequence, torch::tensor({0, 0, 1, 1}, torch::kLong)));
}

}  // namespace
}  // namespace moekit::train
