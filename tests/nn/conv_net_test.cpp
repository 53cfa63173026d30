#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/conv_experts.h"

namespace moekit::nn {
namespace {

ConvNetOptions with_batch_norm(int64_t networks) {
  return ConvNetOptions(1, 14, 14).blocks({{3, 3, 0, true}}).hidden({7, 4}).num_networks(networks);
}

/// Images that need a gradient take the unfused path of plain libtorch operations.
torch::Tensor unfused(const torch::Tensor& images) {
  return images.detach().clone().requires_grad_();
}

TEST(ConvNetStack, FusedBatchNormEqualsTheUnfusedOneInTrainingAndEvaluation) {
  torch::manual_seed(3);
  ConvNetStack a(with_batch_norm(2));
  ConvNetStack b(std::dynamic_pointer_cast<ConvNetStackImpl>(a->clone()));
  {
    const torch::NoGradGuard no_grad;  // a negative scale turns the maximum into a minimum
    for (auto* net : {&a, &b}) {
      (*net)->blocks[0].bn_weight.copy_(
          torch::tensor({1.5F, -0.7F, 0.2F, -1.0F, 1.0F, 0.0F}).reshape({2, 3}));
    }
  }
  const auto images = torch::randn({20, 1, 14, 14});
  for (int step = 0; step < 3; ++step) {
    const auto got = a->forward(images);
    const auto want = b->forward(unfused(images));
    ASSERT_TRUE(torch::allclose(got, want, 1e-4, 1e-5));
    a->zero_grad();
    b->zero_grad();
    got.square().sum().backward();
    want.square().sum().backward();
    for (const auto& item : a->named_parameters()) {
      const auto other = b->named_parameters()[item.key()];
      if (item.key() == "conv0_bias") continue;  // no gradient: the batch mean takes it away
      ASSERT_TRUE(torch::allclose(item.value().grad(), other.grad(), 1e-3, 1e-3)) << item.key();
    }
  }
  for (const auto& item : a->named_buffers()) {
    EXPECT_TRUE(torch::allclose(item.value(), b->named_buffers()[item.key()], 1e-4, 1e-5))
        << item.key();
  }
  a->eval();
  b->eval();
  EXPECT_TRUE(torch::allclose(a->forward(images), b->forward(unfused(images)), 1e-4, 1e-5));
}

TEST(ConvNetStack, EachNetworkOfAStackEqualsThatNetworkAlone) {
  torch::manual_seed(4);
  const auto options =
      ConvNetOptions(3, 16, 16).blocks({{4, 3, 1, false}, {6, 3, 1, true}}).hidden({9, 5});
  ConvNetStack stack(ConvNetOptions(options).num_networks(3));
  const auto images = torch::randn({8, 3, 16, 16});
  const auto all = stack->forward(images);
  for (int64_t e = 0; e < 3; ++e) {
    ConvNetStack one(options);
    const torch::NoGradGuard no_grad;
    for (const auto& item : one->named_parameters()) {
      item.value().copy_(stack->named_parameters()[item.key()].slice(0, e, e + 1));
    }
    EXPECT_TRUE(torch::allclose(one->forward(images)[0], all[e], 1e-4, 1e-5)) << e;
  }
}

TEST(ConvNetStack, RefusesBlocksThatLeaveNoPixel) {
  EXPECT_THROW(ConvNetStack(ConvNetOptions(1, 8, 8).blocks({{1}, {1}, {1}}).hidden({3})),
               ArgumentError);
  EXPECT_THROW(ConvNetStack(ConvNetOptions(1, 8, 8).blocks({{1}})), ArgumentError);
}

TEST(ConvExperts, TheMnistExpertHasAsManyParametersAsThePaperSays) {
  ConvExperts expert(
      ConvExpertsOptions(ConvNetOptions(1, 28, 28).blocks({{1}}).hidden({5, 32}), 10));
  int64_t count = 0;
  for (const auto& parameter : expert->parameters()) count += parameter.numel();
  EXPECT_EQ(count, 1382);
}

TEST(ConvTrunk, EndsInAReluOnlyWhereItIsAskedTo) {
  torch::manual_seed(5);
  ConvTrunk plain(with_batch_norm(1), false);
  ConvTrunk cut(with_batch_norm(1), true);
  for (const auto& item : plain->named_parameters()) {
    const torch::NoGradGuard no_grad;
    cut->named_parameters()[item.key()].copy_(item.value());
  }
  plain->eval();
  cut->eval();
  const auto images = torch::randn({16, 1, 14, 14});
  const auto values = plain->forward(images);
  EXPECT_LT(values.min().item<double>(), -1e-3);
  EXPECT_TRUE(torch::allclose(cut->forward(images), torch::relu(values)));
}

TEST(ConvExperts, TellTheirFeaturesBeforeTheActivation) {
  torch::manual_seed(5);
  ConvExperts experts(ConvExpertsOptions(with_batch_norm(3), 2));
  experts->eval();
  const auto images = torch::randn({16, 1, 14, 14});
  const auto output = experts->forward_all(images);
  EXPECT_LT(output.features.min().item<double>(), -1e-3);
  // What the class layer takes of them is cut at zero.
  const auto want = torch::baddbmm(experts->bias.unsqueeze(1), torch::relu(output.features),
                                   experts->weight.transpose(1, 2));
  EXPECT_TRUE(torch::allclose(output.values, want, 1e-4, 1e-5));
}

}  // namespace
}  // namespace moekit::nn
