#include "moekit/nn/linear_cross_entropy.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

torch::Tensor whole(const torch::Tensor& hidden, const torch::Tensor& weight,
                    const torch::Tensor& target) {
  return torch::nll_loss(torch::log_softmax(hidden.matmul(weight.t()), 1), target);
}

TEST(LinearCrossEntropy, IsThatOfAllLogitsWithItsGradients) {
  torch::manual_seed(1);
  // One block; several, the last of them short; more words than a block has values of a row.
  for (const auto& [rows, words] : {std::pair<int64_t, int64_t>{7, 11}, {70, 70000}, {33, 1}}) {
    const auto target = torch::randint(words, {rows}, torch::kLong);
    std::vector<torch::Tensor> value;
    std::vector<torch::Tensor> of_hidden;
    std::vector<torch::Tensor> of_weight;
    const auto h = torch::randn({rows, 5});
    const auto w = torch::randn({words, 5});
    for (const bool blocks : {true, false}) {
      const auto hidden = h.clone().requires_grad_();
      const auto weight = w.clone().requires_grad_();
      const auto loss =
          blocks ? linear_cross_entropy(hidden, weight, target) : whole(hidden, weight, target);
      (loss * 3).backward();
      value.push_back(loss.detach());
      of_hidden.push_back(hidden.grad());
      of_weight.push_back(weight.grad());
    }
    EXPECT_TRUE(torch::allclose(value[0], value[1], 1e-5, 1e-6)) << words;
    EXPECT_TRUE(torch::allclose(of_hidden[0], of_hidden[1], 1e-4, 1e-6)) << words;
    EXPECT_TRUE(torch::allclose(of_weight[0], of_weight[1], 1e-4, 1e-6)) << words;
    const auto each = linear_token_losses(h, w, target);
    EXPECT_TRUE(torch::allclose(each.mean(), value[1], 1e-5, 1e-6));
    EXPECT_FALSE(each.requires_grad());
  }
}

TEST(LinearCrossEntropy, OneSideMayBeFixedAndBackwardMayRunTwice) {
  torch::manual_seed(2);
  const auto hidden = torch::randn({6, 4}).requires_grad_();
  const auto weight = torch::randn({9, 4});
  const auto target = torch::randint(9, {6}, torch::kLong);
  const auto loss = linear_cross_entropy(hidden, weight, target);
  loss.backward({}, /*retain_graph=*/true);
  const auto once = hidden.grad().clone();
  loss.backward();
  EXPECT_TRUE(torch::allclose(hidden.grad(), once * 2));
  EXPECT_FALSE(weight.grad().defined());
  const torch::NoGradGuard no_grad;
  EXPECT_FALSE(linear_cross_entropy(hidden, weight, target).requires_grad());
}

TEST(LinearCrossEntropy, MultipliesForGradientsThatAreWantedAlone) {
  const auto target = torch::randint(9, {6}, torch::kLong);
  const auto operations = [&](bool of_hidden, bool of_weight, bool learns) {
    const torch::AutoGradMode mode(learns);
    const auto hidden = torch::randn({6, 4}).requires_grad_(of_hidden);
    const auto weight = torch::randn({9, 4}).requires_grad_(of_weight);
    const tensor::OperationCounter counter;
    linear_cross_entropy(hidden, weight, target);
    return counter.total() / (2 * 6 * 4 * 9);
  };
  EXPECT_EQ(operations(true, true, true), 3);
  EXPECT_EQ(operations(true, false, true), 2);
  EXPECT_EQ(operations(false, true, true), 2);
  EXPECT_EQ(operations(false, false, true), 1);
  EXPECT_EQ(operations(true, true, false), 1);
}

TEST(LinearCrossEntropy, StandsLargeLogitsAndSmallTypes) {
  const auto hidden = torch::full({2, 1}, 500.0F);
  const auto weight = torch::tensor({{1.0F}, {-1.0F}});
  const auto target = torch::tensor({0, 1}, torch::kLong);
  EXPECT_NEAR(linear_cross_entropy(hidden, weight, target).item<double>(), 500, 1e-3);
  const auto narrow =
      linear_cross_entropy(hidden.to(torch::kBFloat16), weight.to(torch::kBFloat16), target);
  EXPECT_EQ(narrow.scalar_type(), torch::kFloat);
}

TEST(LinearCrossEntropy, RefusesWhatDoesNotFit) {
  const auto hidden = torch::randn({2, 3});
  const auto weight = torch::randn({4, 3});
  const auto refused = [&](const torch::Tensor& h, const torch::Tensor& w, const torch::Tensor& t) {
    EXPECT_THROW(linear_cross_entropy(h, w, t), ArgumentError);
    EXPECT_THROW(linear_token_losses(h, w, t), ArgumentError);
  };
  refused(hidden, weight, torch::tensor({0, 4}, torch::kLong));
  refused(hidden, weight, torch::tensor({-1, 0}, torch::kLong));
  refused(hidden, weight, torch::tensor({0, 1}, torch::kInt));
  refused(hidden, weight, torch::tensor({0}, torch::kLong));
  refused(hidden, torch::randn({4, 2}), torch::tensor({0, 1}, torch::kLong));
  refused(hidden.narrow(0, 0, 0), weight, torch::empty({0}, torch::kLong));
}

TEST(LinearCrossEntropy, GivesEachRowsLossInTheWiderType) {
  torch::manual_seed(3);
  const auto hidden = torch::randn({5, 3}, torch::kFloat64);
  const auto weight = torch::randn({7, 3}, torch::kFloat64);
  const auto target = torch::tensor({6, 0, 3, 3, 1}, torch::kLong);
  const auto losses = linear_token_losses(hidden, weight, target);
  ASSERT_EQ(losses.sizes(), (std::vector<int64_t>{5}));
  EXPECT_EQ(losses.scalar_type(), torch::kFloat64);
  for (int64_t n = 0; n < 5; ++n) {
    const auto logits = weight.mv(hidden[n]);
    const double want = std::log(logits.exp().sum().item<double>()) -
                        logits[target[n].item<int64_t>()].item<double>();
    EXPECT_NEAR(losses[n].item<double>(), want, 1e-12);
  }
  for (const auto& [a, b] :
       {std::pair{torch::kFloat64, torch::kFloat32}, {torch::kFloat32, torch::kFloat64}}) {
    const auto mixed = linear_cross_entropy(hidden.to(a), weight.to(b), target);
    EXPECT_EQ(mixed.scalar_type(), torch::kFloat64);
    EXPECT_NEAR(mixed.item<double>(), losses.mean().item<double>(), 1e-6);
    EXPECT_EQ(linear_token_losses(hidden.to(a), weight.to(b), target).scalar_type(),
              torch::kFloat64);
  }
  // However they lie in memory, and in bfloat16 gradients of that type.
  const auto turned =
      linear_cross_entropy(hidden.t().contiguous().t(), weight.t().contiguous().t(), target);
  EXPECT_NEAR(turned.item<double>(), losses.mean().item<double>(), 1e-12);
  const auto narrow = hidden.to(torch::kBFloat16).requires_grad_();
  linear_cross_entropy(narrow, weight, target).backward();
  EXPECT_EQ(narrow.grad().scalar_type(), torch::kBFloat16);
}

TEST(LinearCrossEntropy, DifferentiatesTwiceWhateverLearns) {
  torch::manual_seed(4);
  const auto target = torch::tensor({6, 0, 3, 3, 1}, torch::kLong);
  for (const auto& [of_hidden, of_weight] : {std::pair{true, true}, {true, false}, {false, true}}) {
    const auto hidden = torch::randn({5, 3}).requires_grad_(of_hidden);
    const auto weight = torch::randn({7, 3}).requires_grad_(of_weight);
    std::vector<torch::Tensor> learned;
    for (const auto& x : {hidden, weight}) {
      if (x.requires_grad()) learned.push_back(x);
    }
    const auto twice = [&](const torch::Tensor& loss) {
      const auto first = torch::autograd::grad({loss * loss}, learned, {}, true, true);
      auto sum = torch::zeros({});
      for (const auto& g : first) sum = sum + g.square().sum();
      return torch::autograd::grad({sum}, learned);
    };
    const auto got = twice(linear_cross_entropy(hidden, weight, target));
    const auto want = twice(whole(hidden, weight, target));
    for (size_t i = 0; i < learned.size(); ++i) {
      EXPECT_TRUE(torch::allclose(got[i], want[i], 1e-4, 1e-5)) << i;
    }
  }
}

}  // namespace
}  // namespace moekit::nn
