#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "moekit/nn/conv_maxpool.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

std::map<std::string, double> counted_parts(const std::function<void()>& work) {
  const torch::NoGradGuard no_grad;
  const tensor::OperationCounter counter;
  work();
  return {counter.parts().begin(), counter.parts().end()};
}

// Our kernels say what they multiply; libtorch's operations for the same are counted by themselves.
TEST(CountedOperations, OfTheFusedLayerAreThoseOfItsPlainForm) {
  for (const auto activation : {Activation::kSwiglu, Activation::kRelu}) {
    auto moe =
        MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4).top_k(2)),
            std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4).activation(activation)),
            MoEOptions(), std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 1)));
    const auto x = torch::randn({10, 6});
    ASSERT_EQ(moe->why_not_fused(x), "");
    const auto fused = counted_parts([&] { moe->forward(x); });
    moe->options.fused(false);
    const auto plain = counted_parts([&] { moe->forward(x); });
    EXPECT_EQ(fused, plain);
    const double matrices = activation == Activation::kSwiglu ? 3 : 2;
    EXPECT_EQ(fused.at("experts"), 2 * 10 * 2 * matrices * 6 * 8);
    EXPECT_EQ(fused.at("router"), 2 * 10 * 6 * 4);
    EXPECT_GT(fused.at("shared"), 0);
  }
}

TEST(CountedOperations, OfTheConvolutionKernelAreThoseOfItsPlainForm) {
  const auto images = torch::randn({3, 1, 9, 8});
  const auto weight = torch::randn({2, 4, 1, 3, 3});
  const auto bias = torch::randn({2, 4});
  ASSERT_TRUE(can_fuse_conv3x3(images, 3, 0));
  const auto fused = counted_parts([&] { conv3x3_maxpool2_relu(images, weight, bias); });
  EXPECT_EQ(fused, counted_parts([&] {
              conv3x3_maxpool2_relu(images.to(torch::kFloat64), weight.to(torch::kFloat64),
                                    bias.to(torch::kFloat64));
            }));
  EXPECT_EQ(fused.at(""), 2.0 * 3 * 7 * 6 * 8 * 9);
}

TEST(CountedOperations, OfPatchExpertsAreThoseOfTheirPlainForm) {
  PatchExpertsImpl experts(
      PatchExpertsOptions(5, 2, 3).num_filters(4).activation(Activation::kCubic));
  const auto samples = torch::randn({7, 1, 6, 5});
  const auto fused = counted_parts([&] { experts.forward_all(samples); });
  experts.to(torch::kFloat64);
  EXPECT_EQ(fused, counted_parts([&] { experts.forward_all(samples.to(torch::kFloat64)); }));
  EXPECT_EQ(fused.at(""), 2.0 * 3 * 7 * 6 * 5 * 2 * 4);
}

TEST(CountedOperations, OfExpertsThatNoTokenChoseAreNone) {
  LinearExpertsImpl experts(LinearExpertsOptions(6, 5, 4));
  const auto plan = make_plan(torch::zeros({3, 1}, torch::kLong), 4);
  EXPECT_EQ(counted_parts([&] {
              experts.forward_dispatched(torch::randn({3, 6}), plan);
            }).at(""),
            2.0 * 3 * 6 * 5);
}

}  // namespace
}  // namespace moekit::nn
