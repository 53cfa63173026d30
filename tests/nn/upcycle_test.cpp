#include "moekit/nn/upcycle.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

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

TEST(Upcycle, ARoutersOffsetsAreLeftOutOfItsEvenScoreAndComeBackWhereItIsRefused) {
  torch::manual_seed(6);
  const torch::NoGradGuard no_grad;
  auto dense = bank(12, 1, {Activation::kSwiglu, true});
  auto experts = bank(12, 8, {Activation::kSwiglu, true});
  const auto router = linear(8, 2, CombineWeights::kProbs);
  router->bias.copy_(torch::arange(8.0));
  const auto offsets = router->bias.clone();
  const auto rows = router->weight.clone();
  const auto without_effect = UpcycleOptions().scale(UpcycleScale::kAll);
  auto same = linear(8, 2);  // sums to 1: nothing is made larger
  same->bias.copy_(offsets);
  EXPECT_THROW(upcycle(*dense, *experts, *same, without_effect, {}), ArgumentError);
  EXPECT_TRUE(torch::equal(same->bias, offsets));
  upcycle(*dense, *experts, *router, {}, tensor::make_generator(4));
  EXPECT_EQ(router->bias.abs().max().item<double>(), 0);
  EXPECT_FALSE(torch::equal(router->weight, rows));
  for (int64_t e = 0; e < 8; ++e) {
    EXPECT_TRUE(torch::equal(experts->gate_proj[e], dense->gate_proj[0]));
    EXPECT_TRUE(torch::equal(experts->up_bias[e], dense->up_bias[0]));
    EXPECT_TRUE(torch::allclose(experts->down_proj[e], 4 * dense->down_proj[0]));
    EXPECT_TRUE(torch::allclose(experts->down_bias[e], 4 * dense->down_bias[0]));
  }
}

TEST(Upcycle, CutsEveryMatrixAtItsUnits) {
  torch::manual_seed(7);
  const torch::NoGradGuard no_grad;
  for (const bool all : {false, true}) {
    auto dense = bank(12, 1, {Activation::kReglu, true});
    auto experts = bank(4, 6, {Activation::kReglu, true});
    upcycle(
        *dense, *experts, *linear(6, 3),
        UpcycleOptions().granularity(3).scale(all ? UpcycleScale::kAll : UpcycleScale::kDownProj),
        tensor::make_generator(4));
    const double each = all ? std::cbrt(3.0) : 1;
    for (int64_t e = 0; e < 6; ++e) {
      const int64_t at = e % 3 * 4;
      const auto same = [&](const torch::Tensor& got, const torch::Tensor& want, double factor) {
        EXPECT_TRUE(torch::allclose(got[e], want * factor, 1e-5, 1e-7)) << e << all;
      };
      same(experts->gate_proj, dense->gate_proj[0].narrow(0, at, 4), each);
      same(experts->up_proj, dense->up_proj[0].narrow(0, at, 4), each);
      same(experts->gate_bias, dense->gate_bias[0].narrow(0, at, 4), each);
      same(experts->up_bias, dense->up_bias[0].narrow(0, at, 4), each);
      same(experts->down_proj, dense->down_proj[0].narrow(1, at, 4), all ? each : 3);
      same(experts->down_bias, dense->down_bias[0], 1);
    }
  }
  auto relu = bank(12, 1, {Activation::kRelu});
  auto of_relu = bank(4, 6, {Activation::kRelu});
  upcycle(*relu, *of_relu, *linear(6, 3), UpcycleOptions().granularity(3).scale(UpcycleScale::kAll),
          tensor::make_generator(4));
  EXPECT_TRUE(torch::allclose(of_relu->up_proj[0],
                              relu->up_proj[0].narrow(0, 0, 4) * std::sqrt(3.0), 1e-5, 1e-7));
  EXPECT_TRUE(torch::allclose(of_relu->down_proj[1],
                              relu->down_proj[0].narrow(1, 4, 4) * std::sqrt(3.0), 1e-5, 1e-7));
}

TEST(Upcycle, DrawsNoiseAndRowsFromTheGenerator) {
  torch::manual_seed(8);
  const torch::NoGradGuard no_grad;
  auto dense = bank(60, 1);
  const auto drawn = [&](uint64_t seed) {
    auto experts = bank(60, 6);
    auto router = linear(6, 2);
    upcycle(*dense, *experts, *router,
            UpcycleOptions().noise_share(0.25).noise_std(3).router_std(0.5),
            tensor::make_generator(seed));
    return std::vector<torch::Tensor>{experts->gate_proj, experts->up_proj, experts->down_proj,
                                      router->weight};
  };
  const auto a = drawn(1), again = drawn(1), b = drawn(2);
  const torch::Tensor of_dense[] = {dense->gate_proj, dense->up_proj, dense->down_proj};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(torch::equal(a[i], again[i])) << i;
    EXPECT_FALSE(torch::equal(a[i], b[i])) << i;
    if (i == 3) continue;
    const auto other = a[i] != of_dense[i];
    EXPECT_NEAR(other.to(torch::kFloat).mean().item<double>(), 0.25, 0.04) << i;
    const auto noise = a[i].masked_select(other);
    EXPECT_NEAR(noise.std().item<double>(), 3, 0.3) << i;
    EXPECT_NEAR(noise.mean().item<double>(), 0, 0.4) << i;
  }
  auto wide = linear(300, 2);
  auto many = bank(60, 300);
  upcycle(*dense, *many, *wide, UpcycleOptions().router_std(0.5), tensor::make_generator(3));
  EXPECT_NEAR(wide->weight.std().item<double>(), 0.5, 0.03);
  EXPECT_NEAR(wide->weight.mean().item<double>(), 0, 0.05);
}

}  // namespace
}  // namespace moekit::nn
