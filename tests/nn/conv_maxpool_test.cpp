#include "moekit/nn/conv_maxpool.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace moekit::nn
