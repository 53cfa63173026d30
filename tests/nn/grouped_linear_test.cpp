#include "moekit/nn/grouped_linear.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

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

/// Each expert's rows by themselves.
torch::Tensor expert_by_expert(const torch::Tensor& x, const torch::Tensor& weight,
                               const torch::Tensor& bias, const std::vector<int64_t>& offsets) {
  std::vector<torch::Tensor> parts;
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    const auto at = static_cast<int64_t>(e);
    const auto rows = x.slice(0, offsets[e], offsets[e + 1]).matmul(weight[at].t());
    parts.push_back(bias.defined() ? rows + bias[at] : rows);
  }
  return torch::cat(parts);
}

TEST(GroupedLinear, GivesEachInputItsGradientWhereItAloneLearnsOnceAndTwice) {
  const std::vector<int64_t> offsets = {0, 2, 2, 6, 7};
  for (const bool has_bias : {true, false}) {
    for (size_t learns = 0; learns < (has_bias ? 4U : 3U); ++learns) {  // the last: all of them
      torch::manual_seed(9);
      std::vector<torch::Tensor> in{torch::randn({3, 7}).t(), torch::randn({4, 5, 3})};
      if (has_bias) in.push_back(torch::randn({4, 5}));
      std::vector<torch::Tensor> learned;
      for (size_t i = 0; i < in.size(); ++i) {
        if (learns == i || learns == in.size()) learned.push_back(in[i].requires_grad_());
      }
      const auto bias = has_bias ? in[2] : torch::Tensor();
      const auto y = grouped_linear(in[0], in[1], bias, offsets);
      const auto want = expert_by_expert(in[0], in[1], bias, offsets);
      EXPECT_TRUE(torch::allclose(y, want, 1e-5, 1e-6));
      const auto grad = torch::randn({5, 7}).t();
      const auto a = torch::autograd::grad({y}, learned, {grad}, true);
      const auto b = torch::autograd::grad({want}, learned, {grad}, true);
      for (size_t i = 0; i < learned.size(); ++i) {
        EXPECT_TRUE(torch::allclose(a[i], b[i], 1e-4, 1e-5)) << learns << " " << i;
      }
      const auto squared = [&](const torch::Tensor& out) {
        const auto first =
            torch::autograd::grad({out.square().sum()}, learned, {}, true, /*create_graph=*/true);
        auto sum = torch::zeros({});
        for (const auto& g : first) sum = sum + g.square().sum();
        return torch::autograd::grad({sum}, learned);
      };
      const auto twice = squared(y), wanted = squared(want);
      for (size_t i = 0; i < learned.size(); ++i) {
        EXPECT_TRUE(torch::allclose(twice[i], wanted[i], 1e-4, 1e-3)) << learns << " " << i;
      }
    }
  }
}

TEST(GroupedLinear, NamesTheExpertOfEveryRow) {
  EXPECT_TRUE(torch::equal(expert_of_rows({0, 2, 2, 5, 6}),
                           torch::tensor({0, 0, 2, 2, 2, 3}, torch::kLong)));
  EXPECT_EQ(expert_of_rows({0, 0, 0}).numel(), 0);
}

TEST(StackedLinear, IsALoopOverExpertsWithAndWithoutABias) {
  torch::manual_seed(10);
  const auto x = torch::randn({3, 6, 4});
  const auto w = torch::randn({3, 5, 4});
  const auto b = torch::randn({3, 5});
  const auto plain = stacked_linear(x, w, {});
  const auto with_bias = stacked_linear(x, w, b);
  const auto shared = stacked_linear(x[1], w, {});
  ASSERT_EQ(plain.sizes(), (std::vector<int64_t>{3, 6, 5}));
  for (int64_t e = 0; e < 3; ++e) {
    EXPECT_TRUE(torch::allclose(plain[e], x[e].matmul(w[e].t()), 1e-5, 1e-6));
    EXPECT_TRUE(torch::allclose(with_bias[e], x[e].matmul(w[e].t()) + b[e], 1e-5, 1e-6));
    EXPECT_TRUE(torch::allclose(shared[e], x[1].matmul(w[e].t()), 1e-5, 1e-6));
  }
}

}  // namespace
}  // namespace moekit::nn
