#include "moekit/nn/moe_layer.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"

namespace moekit::nn {
namespace {

MoE make_layer(int64_t top_k, double capacity = 0, bool shared = false) {
  torch::manual_seed(3);
  return MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4).top_k(top_k)),
             std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4)),
             MoEOptions().capacity_factor(capacity),
             shared ? std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 1)) : nullptr);
}

TEST(MoE, EqualsTheWeightedSumOfTheChosenExperts) {
  for (const int64_t k : {1, 2, 4}) {
    auto layer = make_layer(k, 0, true);
    const auto x = torch::randn({10, 6});
    const auto output = layer->forward_with_routing(x);
    const auto all = layer->experts->forward_all(x).values;
    auto want = layer->shared_experts->forward_all(x).values[0].clone();
    for (int64_t n = 0; n < 10; ++n) {
      for (int64_t c = 0; c < k; ++c) {
        const auto e = output.routing.expert_index[n][c].item<int64_t>();
        want[n] += output.routing.combine_weight[n][c] * all[e][n];
      }
    }
    EXPECT_TRUE(torch::allclose(output.values, want, 1e-5, 1e-5)) << k;
  }
}

TEST(MoE, CountsWhatItDropsBeyondTheCapacity) {
  auto layer = make_layer(1, 0.5);
  const auto output = layer->forward_with_routing(torch::randn({16, 6}));
  int64_t kept = 0;
  for (int64_t e = 0; e < 4; ++e) {
    EXPECT_LE(output.plan.count(e), 2);
    kept += output.plan.count(e);
  }
  EXPECT_EQ(kept + output.plan.num_dropped(), 16);
  EXPECT_GT(output.plan.num_dropped(), 0);
}

TEST(MoE, FitsIntoSequentialAndTakesNoTokens) {
  auto layer = make_layer(2);
  torch::nn::Sequential net(torch::nn::Linear(3, 6), layer, torch::nn::Linear(6, 2));
  EXPECT_EQ(net->forward(torch::randn({5, 3})).sizes(), (std::vector<int64_t>{5, 2}));
  EXPECT_EQ(layer->forward(torch::zeros({0, 6})).size(0), 0);
}

TEST(MoE, LearnsThroughTheRouterToo) {
  auto layer = make_layer(2);
  layer->forward(torch::randn({10, 6})).square().sum().backward();
  EXPECT_GT(layer->router->parameters()[0].grad().abs().sum().item<float>(), 0);
}

TEST(MoE, RunsAllExpertsForARouterThatNeedsTheirFeatures) {
  MoE layer(std::make_shared<AttentiveRouterImpl>(AttentiveRouterOptions(8, 4).top_k(1),
                                                  torch::nn::AnyModule(torch::nn::Linear(6, 8))),
            std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4)));
  EXPECT_EQ(layer->forward(torch::randn({3, 6})).sizes(), (std::vector<int64_t>{3, 6}));
}

TEST(MoE, RefusesPartsThatDoNotFit) {
  EXPECT_THROW(MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 3)),
                   std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4))),
               ArgumentError);
  EXPECT_THROW(make_layer(1, -1), ArgumentError);
}

}  // namespace
}  // namespace moekit::nn
