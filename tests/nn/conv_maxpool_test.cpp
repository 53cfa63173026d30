#include "moekit/nn/conv_maxpool.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

namespace moekit::nn {
namespace {

TEST(ConvMaxPool, EqualsConvolutionPoolAndReluWithGradient) {
  torch::manual_seed(1);
  const auto images = torch::randn({70, 1, 28, 28});
  const auto w1 = torch::randn({5, 2, 1, 3, 3}).requires_grad_();
  const auto b1 = torch::randn({5, 2}).requires_grad_();
  const auto w2 = w1.detach().clone().requires_grad_();
  const auto b2 = b1.detach().clone().requires_grad_();
  const auto got = conv3x3_maxpool2_relu(images, w1, b1);
  std::vector<torch::Tensor> networks;
  for (int64_t e = 0; e < 5; ++e) {
    networks.push_back(torch::relu(torch::max_pool2d(torch::conv2d(images, w2[e], b2[e]), 2)));
  }
  const auto want = torch::stack(networks);
  EXPECT_TRUE(torch::allclose(got, want, 1e-5, 1e-5));
  const auto grad = torch::randn_like(want);
  got.backward(grad);
  want.backward(grad);
  EXPECT_TRUE(torch::allclose(w1.grad(), w2.grad(), 1e-4, 1e-3));
  EXPECT_TRUE(torch::allclose(b1.grad(), b2.grad(), 1e-4, 1e-3));
}

TEST(ConvMaxPool, GivesTheSameGradientForEveryThreadCount) {
  torch::manual_seed(1);
  const auto images = torch::randn({300, 1, 12, 12});
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    const auto w = torch::ones({1, 2, 1, 3, 3}).requires_grad_();
    conv3x3_maxpool2_relu(images, w, torch::zeros({1, 2})).square().sum().backward();
    return w.grad();
  };
  const auto one = run(1);
  const auto two = run(2);
  at::set_num_threads(1);
  EXPECT_TRUE(torch::equal(one, two));
}

TEST(ConvMaxPool, FallsBackWhereImagesNeedAGradient) {
  const auto images = torch::randn({2, 1, 8, 8}).requires_grad_();
  EXPECT_FALSE(can_fuse_conv3x3(images, 3, 0));
  conv3x3_maxpool2_relu(images, torch::randn({2, 1, 1, 3, 3}), torch::ones({2, 1}))
      .sum()
      .backward();
  EXPECT_TRUE(images.grad().defined());
}

TEST(ConvMaxPool, TakesAnEmptyBatchAndRefusesOtherShapes) {
  const auto run = [](torch::IntArrayRef images, torch::IntArrayRef weight, int64_t channels = 2) {
    return conv3x3_maxpool2_relu(torch::zeros(images), torch::zeros(weight),
                                 torch::zeros({1, channels}));
  };
  EXPECT_EQ(run({0, 1, 8, 8}, {1, 2, 1, 3, 3}).size(1), 0);
  EXPECT_ANY_THROW(run({1, 2, 8, 8}, {1, 2, 2, 3, 3}));
  EXPECT_ANY_THROW(run({1, 1, 3, 8}, {1, 2, 1, 3, 3}));
  EXPECT_ANY_THROW(run({1, 1, 8, 8}, {1, 2, 1, 3, 3}, 3));
}

TEST(PatchMoments, GiveTheMeanAndVarianceOfAConvolution) {
  torch::manual_seed(2);
  const auto images = torch::rand({65, 1, 10, 11}) + 3;
  const auto w = torch::randn({4, 1, 3, 3});
  const auto moments = patch3x3_moments(images);
  const auto flat = w.reshape({4, 9}).to(torch::kFloat64);
  const auto out = torch::conv2d(images.to(torch::kFloat64), w.to(torch::kFloat64));
  const auto mean = out.mean({0, 2, 3});
  const auto var = (out - mean.reshape({1, 4, 1, 1})).square().mean({0, 2, 3});
  EXPECT_TRUE(torch::allclose(flat.matmul(moments.mean), mean, 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose((flat.matmul(moments.covariance) * flat).sum(1), var, 1e-3, 1e-4));
}

/// Network by network with libtorch's operations.
torch::Tensor each_network(const torch::Tensor& images, const torch::Tensor& weight,
                           const torch::Tensor& bias) {
  std::vector<torch::Tensor> out;
  for (int64_t e = 0; e < weight.size(0); ++e) {
    out.push_back(torch::relu(torch::max_pool2d(torch::conv2d(images, weight[e], bias[e]), 2)));
  }
  return torch::stack(out);
}

TEST(ConvMaxPool, TakesImagesThatAreNotSquareInEveryNumberOfBlocks) {
  torch::manual_seed(3);
  for (const int64_t count : {1, 63, 64, 65, 129}) {
    for (const auto type : {torch::kFloat32, torch::kFloat64}) {
      const auto images = torch::randn({count, 1, 9, 6}, type);
      const auto weight = torch::randn({3, 2, 1, 3, 3}, type).requires_grad_();
      const auto bias = torch::randn({3, 2}, type).requires_grad_();
      const auto got = conv3x3_maxpool2_relu(images, weight, bias);
      const auto want = each_network(images, weight, bias);
      ASSERT_EQ(got.sizes(), (std::vector<int64_t>{3, count, 2, 3, 2}));
      EXPECT_TRUE(torch::allclose(got, want, 1e-5, 1e-5)) << count;
      const auto grad = torch::randn({2, 3, 2, count, 3}, type).permute({4, 3, 0, 1, 2});
      const auto a = torch::autograd::grad({got}, {weight, bias}, {grad});
      const auto b = torch::autograd::grad({want}, {weight, bias}, {grad});
      EXPECT_TRUE(torch::allclose(a[0], b[0], 1e-4, 1e-3)) << count;
      EXPECT_TRUE(torch::allclose(a[1], b[1], 1e-4, 1e-3)) << count;
      EXPECT_EQ(a[0].scalar_type(), type);
    }
  }
}

TEST(ConvMaxPool, TakesTurnedParametersAndOneTypeThatIsAnother) {
  torch::manual_seed(4);
  const auto images = torch::randn({5, 1, 7, 8});
  const auto weight = torch::randn({2, 3, 1, 3, 3});
  const auto bias = torch::randn({2, 3});
  const auto want = each_network(images, weight, bias);
  const auto turned = weight.transpose(3, 4).contiguous().transpose(3, 4);
  const auto turned_bias = bias.t().contiguous().t();
  EXPECT_TRUE(torch::allclose(conv3x3_maxpool2_relu(images, turned, bias), want, 1e-5, 1e-5));
  EXPECT_TRUE(
      torch::allclose(conv3x3_maxpool2_relu(images, weight, turned_bias), want, 1e-5, 1e-5));
  // Types that differ are libtorch's to refuse: the kernel would read doubles as floats.
  EXPECT_ANY_THROW(conv3x3_maxpool2_relu(images, weight.to(torch::kFloat64), bias));
  EXPECT_ANY_THROW(conv3x3_maxpool2_relu(images, weight, bias.to(torch::kFloat64)));
}

TEST(PatchMoments, AreThoseOfAllPatches) {
  torch::manual_seed(5);
  for (const int64_t count : {1, 64, 65, 130}) {
    const auto images = (torch::rand({count, 1, 6, 9}) * 2 + 1).requires_grad_();
    const auto moments = patch3x3_moments(images);
    const auto patches = images.detach()
                             .to(torch::kFloat64)
                             .squeeze(1)
                             .unfold(1, 3, 1)
                             .unfold(2, 3, 1)
                             .reshape({-1, 9});
    const auto mean = patches.mean(0);
    const auto apart = patches - mean;
    const auto covariance = apart.t().matmul(apart) / static_cast<double>(patches.size(0));
    EXPECT_TRUE(torch::allclose(moments.mean, mean, 1e-5, 1e-6)) << count;
    EXPECT_TRUE(torch::allclose(moments.covariance, covariance, 1e-3, 1e-4)) << count;
    EXPECT_FALSE(moments.mean.requires_grad());
    EXPECT_FALSE(moments.covariance.requires_grad());
    const auto wide = patch3x3_moments(images.to(torch::kFloat64).transpose(2, 3).contiguous());
    EXPECT_NEAR(wide.mean.sum().item<double>(), mean.sum().item<double>(), 1e-4);
  }
}

}  // namespace
}  // namespace moekit::nn
