#include "moekit/nn/routed_layer.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/mixture.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/surgery.h"

namespace moekit::nn {
namespace {

std::shared_ptr<LinearRouterImpl> router(int64_t experts) {
  return std::make_shared<LinearRouterImpl>(LinearRouterOptions(4, experts));
}
std::shared_ptr<LinearExpertsImpl> bank(int64_t experts) {
  return std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(4, 4, experts));
}

/// Two sparse layers, one of them inside another module, and a classical mixture.
struct ThreeMixturesImpl : torch::nn::Cloneable<ThreeMixturesImpl> {
  ThreeMixturesImpl() { reset(); }
  void reset() override {
    body = register_module("body",
                           torch::nn::Sequential(torch::nn::Linear(4, 4), MoE(router(3), bank(3))));
    top = register_module("top", MoE(router(2), bank(2), MoEOptions(), bank(1)));
    mixture = register_module("mixture", Mixture(router(5), bank(5)));
  }
  torch::nn::Sequential body{nullptr};
  MoE top{nullptr};
  Mixture mixture{nullptr};
};

TEST(RoutedLayers, ListsAllMixturesOfAModelByName) {
  ThreeMixturesImpl model;
  const auto layers = routed_layers(model);
  ASSERT_EQ(layers.size(), 3U);
  EXPECT_EQ(layers[0].name, "body.1");
  EXPECT_EQ(layers[0].experts->num_experts(), 3);
  EXPECT_EQ(layers[0].shared, nullptr);
  EXPECT_EQ(layers[1].name, "top");
  EXPECT_EQ(layers[1].shared->num_experts(), 1);
  EXPECT_EQ(layers[2].name, "mixture");
  EXPECT_EQ(layers[2].router, model.mixture->router);
}

TEST(RoutedLayers, AModelThatIsOneItselfHasNoName) {
  MoE layer(router(3), bank(3));
  const auto layers = routed_layers(*layer);
  ASSERT_EQ(layers.size(), 1U);
  EXPECT_EQ(layers[0].name, "");
  EXPECT_TRUE(routed_layers(*torch::nn::Linear(2, 2)).empty());
}

TEST(RoutedLayers, RemembersWhichExpertsWereKeptThroughEditsAndCopies) {
  ThreeMixturesImpl model;
  const auto layer = routed_layers(model)[2];
  EXPECT_EQ(layer.module->kept_experts(), (std::vector<int64_t>{0, 1, 2, 3, 4}));
  take_experts(layer, {4, 2, 1});
  take_experts(layer, {0, 0, 2});
  EXPECT_EQ(layer.module->kept_experts(), (std::vector<int64_t>{4, 4, 1}));
  EXPECT_EQ(layer.experts->num_experts(), 3);
  const auto copy = std::dynamic_pointer_cast<MixtureImpl>(model.mixture->clone());
  EXPECT_EQ(copy->kept_experts(), (std::vector<int64_t>{4, 4, 1}));
  EXPECT_NE(routed_layers(*copy)[0].experts, layer.experts);
}

}  // namespace
}  // namespace moekit::nn
