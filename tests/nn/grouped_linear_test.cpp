#include "moekit/nn/grouped_linear.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

TEST(GroupedLinear, EqualsALoopOverExpertsWithGradients) {
  torch::manual_seed(1);
  const std::vector<int64_t> offsets = {0, 3, 3, 4, 9};
  const auto leaf = [](torch::IntArrayRef sizes) { return torch::randn(sizes).requires_grad_(); };
  const auto x = leaf({9, 6});
  const auto w = leaf({4, 5, 6});
  const auto b = leaf({4, 5});
  const auto y = grouped_linear(x, w, b, offsets);
  y.square().sum().backward();
  const auto x2 = x.detach().clone().requires_grad_();
  const auto w2 = w.detach().clone().requires_grad_();
  const auto b2 = b.detach().clone().requires_grad_();
  std::vector<torch::Tensor> parts;
  for (size_t e = 0; e < 4; ++e) {
    const auto at = static_cast<int64_t>(e);
    parts.push_back(torch::linear(x2.slice(0, offsets[e], offsets[e + 1]), w2[at], b2[at]));
  }
  const auto want = torch::cat(parts);
  want.square().sum().backward();
  EXPECT_TRUE(torch::allclose(y, want, 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(x.grad(), x2.grad(), 1e-4, 1e-5));
  EXPECT_TRUE(torch::allclose(w.grad(), w2.grad(), 1e-4, 1e-5));
  EXPECT_TRUE(torch::allclose(b.grad(), b2.grad(), 1e-4, 1e-5));
  // The expert without rows: exact zeros, not leftovers of an uninitialised buffer.
  EXPECT_EQ(w.grad()[1].abs().max().item<float>(), 0.0F);
  EXPECT_EQ(b.grad()[1].abs().max().item<float>(), 0.0F);
}

TEST(GroupedLinear, DoesNotReadTheWeightsOfAnExpertWithoutRows) {
  auto w = torch::ones({2, 1, 1});
  w[0].fill_(std::numeric_limits<float>::quiet_NaN());
  const auto y = grouped_linear(torch::ones({3, 1}), w, {}, {0, 0, 3});
  EXPECT_TRUE(torch::equal(y, torch::ones({3, 1})));
}

TEST(GroupedLinear, TakesNoRowsAtAll) {
  const auto w = torch::ones({2, 3, 4}).requires_grad_();
  const auto y = grouped_linear(torch::ones({0, 4}), w, {}, {0, 0, 0});
  EXPECT_EQ(y.sizes(), (std::vector<int64_t>{0, 3}));
  y.sum().backward();
  EXPECT_EQ(w.grad().abs().max().item<float>(), 0.0F);
}

TEST(GroupedLinear, RefusesOffsetsThatDoNotFit) {
  const auto x = torch::ones({3, 4});
  const auto w = torch::ones({2, 3, 4});
  for (const std::vector<int64_t>& offsets :
       {std::vector<int64_t>{0, 3}, {0, 4, 3}, {0, 1, 2}, {1, 2, 3}}) {
    EXPECT_THROW(grouped_linear(x, w, {}, offsets), ArgumentError);
  }
  EXPECT_THROW(grouped_linear(torch::ones({3, 5}), w, {}, {0, 1, 3}), ArgumentError);
}

TEST(StackedLinear, SharesOneInputOrTakesOnePerExpert) {
  torch::manual_seed(2);
  const auto x = torch::randn({5, 4});
  const auto w = torch::randn({3, 2, 4});
  const auto b = torch::randn({3, 2});
  const auto shared = stacked_linear(x, w, b);
  const auto own = stacked_linear(x.unsqueeze(0).repeat({3, 1, 1}), w, b);
  EXPECT_TRUE(torch::allclose(shared, own));
  EXPECT_TRUE(torch::allclose(shared[1], torch::linear(x, w[1], b[1]), 1e-5, 1e-6));
}

}  // namespace
}  // namespace moekit::nn
