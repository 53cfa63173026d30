#include "moekit/nn/upcycle.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/relu_router.h"
#include "moekit/nn/routers/scored_router.h"
#include "moekit/tensor/generator.h"

namespace moekit::nn {
namespace {

constexpr int64_t kSize = 6;

struct Case {
  Activation activation = Activation::kSwiglu;
  bool bias = false;
};

MlpExperts bank(int64_t units, int64_t experts, Case c = {}) {
  return MlpExperts(MlpExpertsOptions(kSize, units, experts).activation(c.activation).bias(c.bias));
}

/// Largest difference between the mixture made of a network and that network, over its largest
/// value.
double apart(MlpExperts& dense, MlpExperts& experts, std::shared_ptr<RouterImpl> router,
             const UpcycleOptions& options) {
  const torch::NoGradGuard no_grad;
  upcycle(*dense, *experts, *router, options, tensor::make_generator(4));
  MoE layer(std::move(router), experts.ptr());
  layer->eval();
  const auto x = torch::randn({30, kSize});
  const auto want = dense->forward_all(x).values[0];
  const auto got = layer->forward_with_routing(x).values;
  return ((got - want).abs().max() / want.abs().max()).item<double>();
}

std::shared_ptr<LinearRouterImpl> linear(int64_t experts, int64_t top_k,
                                         CombineWeights weights = CombineWeights::kRenormalized) {
  return std::make_shared<LinearRouterImpl>(
      LinearRouterOptions(kSize, experts).top_k(top_k).combine_weights(weights));
}

TEST(Upcycle, WholeCopiesWithWeightsThatSumToOneAreTheNetwork) {
  torch::manual_seed(1);
  for (const auto activation : {Activation::kSwiglu, Activation::kGelu}) {
    for (const bool bias : {false, true}) {
      auto dense = bank(12, 1, {activation, bias});
      auto experts = bank(12, 8, {activation, bias});
      EXPECT_LT(apart(dense, experts, linear(8, 2), {}), 1e-5);
      EXPECT_TRUE(torch::equal(experts->up_proj[5], dense->up_proj[0]));
    }
  }
}

TEST(Upcycle, SlicesAreChosenTogetherAndAddUp) {
  torch::manual_seed(2);
  for (const bool bias : {false, true}) {
    auto dense = bank(12, 1, {Activation::kSwiglu, bias});
    auto experts = bank(4, 6, {Activation::kSwiglu, bias});
    const auto router = linear(6, 3);
    EXPECT_LT(apart(dense, experts, router, UpcycleOptions().granularity(3).router_std(1)), 1e-5);
    EXPECT_TRUE(torch::equal(router->weight[0], router->weight[2]));
    EXPECT_FALSE(torch::equal(router->weight[2], router->weight[3]));
    EXPECT_EQ(router->bias.abs().sum().item<double>(), 0);
  }
}

TEST(Upcycle, EverySliceMadeLargerAlikeIsExactForRelu) {
  torch::manual_seed(3);
  const auto of_all = UpcycleOptions().granularity(3).scale(UpcycleScale::kAll);
  auto relu = bank(12, 1, {Activation::kRelu});
  auto of_relu = bank(4, 6, {Activation::kRelu});
  EXPECT_LT(apart(relu, of_relu, linear(6, 3), of_all), 1e-5);
  auto swiglu = bank(12, 1);
  auto of_swiglu = bank(4, 6);
  const double off = apart(swiglu, of_swiglu, linear(6, 3), of_all);
  EXPECT_GT(off, 1e-3);  // silu is not homogeneous
  EXPECT_LT(off, 0.5);
  EXPECT_NEAR((of_swiglu->gate_proj[0][0][0] / swiglu->gate_proj[0][0][0]).item<double>(),
              std::cbrt(3.0), 1e-5);
}

TEST(Upcycle, SharesOfASoftmaxOverAllAreMadeUpFor) {
  torch::manual_seed(4);
  auto dense = bank(12, 1);
  auto experts = bank(12, 8);
  // With a small router all shares are near 1/8: two of them sum to a quarter.
  const auto router = linear(8, 2, CombineWeights::kProbs);
  EXPECT_LT(apart(dense, experts, router, UpcycleOptions().router_std(1e-4)), 2e-3);
  EXPECT_NEAR((experts->down_proj[3][0][0] / dense->down_proj[0][0][0]).item<double>(), 4, 1e-4);
  auto scored = std::make_shared<ScoredRouterImpl>(ScoredRouterOptions(kSize, 8).weight_scale(2.5));
  EXPECT_LT(apart(dense, experts, scored, {}), 1e-5);
}

TEST(Upcycle, NoiseReplacesAShareOfTheEntries) {
  torch::manual_seed(5);
  auto dense = bank(40, 1, {Activation::kSwiglu, true});
  auto experts = bank(40, 8, {Activation::kSwiglu, true});
  upcycle(*dense, *experts, *linear(8, 2), UpcycleOptions().noise_share(0.5).noise_std(0.01),
          tensor::make_generator(1));
  const auto same = (experts->up_proj == dense->up_proj).to(torch::kFloat).mean();
  EXPECT_NEAR(same.item<double>(), 0.5, 0.03);
  const auto drawn = experts->up_proj.masked_select(experts->up_proj != dense->up_proj);
  EXPECT_NEAR(drawn.std().item<double>(), 0.01, 1e-3);
  EXPECT_TRUE(torch::equal(experts->up_bias[3], dense->up_bias[0]));
  EXPECT_FALSE(torch::equal(experts->up_proj[0], experts->up_proj[1]));
}

TEST(Upcycle, RefusesWhatDoesNotFitAndChangesNothing) {
  auto dense = bank(12, 1);
  auto experts = bank(12, 6);
  const auto before = experts->up_proj.detach().clone();
  const auto refused = [&](MlpExperts& to, std::shared_ptr<RouterImpl> router, UpcycleOptions o) {
    try {
      upcycle(*dense, *to, *router, o, {});
      ADD_FAILURE() << "taken";
    } catch (const ArgumentError& error) {
      EXPECT_NE(std::string(error.what()), "");
    }
  };
  auto narrow = bank(4, 6);
  auto relu = bank(12, 6, {Activation::kReglu});
  auto biased = bank(12, 6, {Activation::kSwiglu, true});
  refused(narrow, linear(6, 2), {});
  refused(narrow, linear(6, 2), UpcycleOptions().granularity(3));  // top_k
  refused(relu, linear(6, 2), {});
  refused(biased, linear(6, 2), {});
  refused(experts, linear(6, 2), UpcycleOptions().noise_std(0.5));
  refused(experts, linear(6, 2), UpcycleOptions().scale(UpcycleScale::kAll));
  refused(experts, std::make_shared<ReluRouterImpl>(ReluRouterOptions(kSize, 6)), {});
  EXPECT_TRUE(torch::equal(experts->up_proj, before));
}

}  // namespace
}  // namespace moekit::nn
