#include "moekit/nn/experts/patch_experts.h"

#include <gtest/gtest.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/patch_sum.h"

namespace moekit::nn {
namespace {

TEST(PatchExperts, AgreesWithTheFormulaAndItsGradientForEveryActivation) {
  for (const auto activation : {Activation::kIdentity, Activation::kRelu, Activation::kCubic,
                                Activation::kTanh, Activation::kCelu, Activation::kGelu}) {
    torch::manual_seed(1);
    PatchExperts experts(PatchExpertsOptions(5, 3, 2).num_filters(4).activation(activation));
    const auto x = torch::randn({7, 1, 4, 5});
    const auto got = experts->forward_all(x).values;
    const auto z = torch::einsum("npd,efd->enpf", {x.squeeze(1), experts->weight}) +
                   experts->bias.unsqueeze(1).unsqueeze(1);
    const auto want = activate(z, activation).view({2, 7, 4, 3, 4}).sum({2, 4});
    EXPECT_TRUE(torch::allclose(got, want, 1e-4, 1e-5)) << enum_name(activation);
    const auto direction = torch::randn_like(got);
    const std::vector<torch::Tensor> parameters = {experts->weight, experts->bias};
    const auto got_grad = torch::autograd::grad({(got * direction).sum()}, parameters);
    const auto want_grad = torch::autograd::grad({(want * direction).sum()}, parameters);
    for (size_t p = 0; p < parameters.size(); ++p) {
      EXPECT_TRUE(torch::allclose(got_grad[p], want_grad[p], 1e-4, 1e-4)) << enum_name(activation);
    }
  }
}

TEST(PatchExperts, ReadsTokensInPlaceAsIfTheyWereGathered) {
  for (const auto activation : {Activation::kCubic, Activation::kTanh, Activation::kIdentity}) {
    PatchExperts experts(PatchExpertsOptions(5, 2, 3).activation(activation));
    const auto x = torch::randn({9, 1, 4, 5});
    const auto plan =
        make_plan(torch::tensor({2, 0, 2, 2, 0, 0, 2, 0, 2}, torch::kLong).unsqueeze(1), 3);
    EXPECT_TRUE(torch::allclose(experts->forward_dispatched(x, plan),
                                experts->forward_routed(dispatch(x, plan), plan), 1e-5, 1e-6));
  }
}

TEST(PatchExperts, RefusesGatedActivationsAndOtherSizes) {
  EXPECT_THROW(PatchExperts(PatchExpertsOptions(5, 2, 2).activation(Activation::kSwiglu)),
               ArgumentError);
  EXPECT_THROW(PatchExperts(PatchExpertsOptions(5, 2, 0)), ArgumentError);
  EXPECT_THROW(PatchExperts(PatchExpertsOptions(5, 2, 2))->forward_all(torch::randn({3, 1, 4, 6})),
               ArgumentError);
}

TEST(PatchSum, SumsRowsOrSquarePatches) {
  const auto x = torch::randn({3, 1, 4, 5});
  EXPECT_TRUE(torch::allclose(PatchSum(0)->forward(x), x.squeeze(1).sum(1)));
  const auto images = torch::randn({2, 3, 8, 12});
  // The same as a convolution with stride 4, summed over positions.
  const auto weight = torch::randn({5, 3, 4, 4});
  const auto want = torch::conv2d(images, weight, torch::Tensor(), at::IntArrayRef{4, 4})
                        .sum(at::IntArrayRef{2, 3});
  EXPECT_TRUE(torch::allclose(PatchSum(4)->forward(images).matmul(weight.flatten(1).t()), want,
                              1e-4, 1e-4));
  EXPECT_THROW(PatchSum(5)->forward(images), ArgumentError);
}

TEST(CombineWeights, TakeTheGateFromWhereTheyAreTold) {
  const auto clean = torch::randn({6, 4});
  const auto logits = clean + torch::rand({6, 4});
  const auto by = [&](CombineWeights weights) { return route(logits, 1, weights, clean); };
  const auto index = logits.argmax(1).unsqueeze(1);
  EXPECT_TRUE(torch::equal(by(CombineWeights::kLogits).expert_index, index));
  EXPECT_TRUE(torch::equal(by(CombineWeights::kLogits).weight, logits.gather(1, index).flatten()));
  EXPECT_TRUE(torch::allclose(by(CombineWeights::kCleanProbs).weight,
                              torch::softmax(clean, 1).gather(1, index).flatten()));
  EXPECT_TRUE(torch::allclose(by(CombineWeights::kProbs).weight,
                              torch::softmax(logits, 1).gather(1, index).flatten()));
}

TEST(LinearRouter, LeavesUniformNoiseOnOutsideTrainingWhenAsked) {
  LinearRouter router(LinearRouterOptions(3, 4)
                          .top_k(1)
                          .combine_weights(CombineWeights::kLogits)
                          .noise(RouterNoise::kUniform)
                          .init(RouterInit::kZero));
  const auto x = torch::randn({2000, 3});
  RouterContext context;
  EXPECT_EQ(router->forward(x, context).logits.abs().max().item<float>(), 0);
  context.always_noise = true;
  const auto noisy = router->forward(x, context);
  EXPECT_GE(noisy.logits.min().item<float>(), 0);
  EXPECT_LT(noisy.logits.max().item<float>(), 1);
  EXPECT_TRUE(torch::bincount(noisy.expert_index.flatten(), {}, 4).gt(400).all().item<bool>());
}

}  // namespace
}  // namespace moekit::nn
