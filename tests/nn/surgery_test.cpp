#include "moekit/nn/surgery.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/core/error.h"
#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/mixture.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"

namespace moekit::nn {
namespace {

TEST(CopyParameters, CopiesValuesAndBuffersNotTheTensorsThemselves) {
  torch::nn::BatchNorm1d a(3);
  torch::nn::BatchNorm1d b(3);
  a->forward(torch::randn({8, 3}));
  copy_parameters(*a, *b);
  EXPECT_TRUE(torch::equal(a->running_mean, b->running_mean));
  a->running_mean.zero_();
  EXPECT_FALSE(torch::equal(a->running_mean, b->running_mean));
}

TEST(CopyParameters, NamesWhatDoesNotFitAndCopiesNothing) {
  torch::nn::Linear a(3, 2);
  torch::nn::Linear b(4, 2);
  const auto before = b->bias.detach().clone();
  try {
    copy_parameters(*a, *b);
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_NE(std::string(error.what()).find("weight is [2, 3], wanted [2, 4]"), std::string::npos);
  }
  EXPECT_TRUE(torch::equal(b->bias, before));
}

TEST(FrozenModules, KeepBatchNormStatisticsThroughTraining) {
  const auto norm = std::make_shared<torch::nn::BatchNorm1dImpl>(3);
  FrozenModules frozen;
  frozen.add(norm);
  norm->train();
  frozen.apply();
  const auto before = norm->running_mean.clone();
  norm->forward(torch::randn({8, 3}) + 5);
  EXPECT_TRUE(torch::equal(before, norm->running_mean));
  for (const auto& p : norm->parameters()) EXPECT_FALSE(p.requires_grad());
}

MoE small_layer(int64_t top_k = 2) {
  return MoE(
      std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4).top_k(top_k).bias(true)),
      std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4).activation(Activation::kSwiglu)));
}

void step(torch::optim::Optimizer& optimizer, const torch::Tensor& values) {
  optimizer.zero_grad();
  values.square().mean().backward();
  optimizer.step();
}

/// The tensors an optimizer keeps, by parameter and name.
std::map<std::string, torch::Tensor> state_of(torch::optim::Optimizer& optimizer,
                                              const torch::nn::Module& module) {
  std::map<std::string, torch::Tensor> out;
  const auto tensors = checkpoint::optimizer_tensors(optimizer, module);
  for (const auto& name : tensors.names()) out[name] = tensors.read(name).clone();
  return out;
}

TEST(TakeExperts, AReorderedLayerGivesTheSameOutput) {
  auto layer = small_layer();
  const auto tokens = torch::randn({10, 6});
  const auto before = layer->forward(tokens);
  take_experts(*layer, {3, 1, 0, 2});
  EXPECT_TRUE(torch::allclose(before, layer->forward(tokens), 1e-5, 1e-6));
}

TEST(TakeExperts, RemovalCarriesParametersOptionsAndAdamState) {
  auto layer = small_layer();
  torch::optim::Adam adam(layer->parameters(), 0.01);
  const auto tokens = torch::randn({40, 6});
  for (int i = 0; i < 3; ++i) step(adam, layer->forward(tokens));
  const auto before = state_of(adam, *layer);
  const auto weights = layer->named_parameters()["experts.up_proj"].detach().clone();
  take_experts(*layer, {2, 0}, &adam);
  EXPECT_EQ(layer->experts->num_experts(), 2);
  EXPECT_EQ(layer->router->num_experts(), 2);
  const auto index = torch::tensor({2, 0});
  EXPECT_TRUE(
      torch::equal(layer->named_parameters()["experts.up_proj"], weights.index_select(0, index)));
  const auto after = state_of(adam, *layer);
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [name, tensor] : after) {
    const auto& old = before.at(name);
    EXPECT_TRUE(torch::equal(tensor, old.dim() > 0 ? old.index_select(0, index) : old)) << name;
  }
  for (int i = 0; i < 2; ++i) step(adam, layer->forward(tokens));  // and it goes on learning
  auto copy = std::dynamic_pointer_cast<MoEImpl>(layer->clone());  // rebuilt from the options
  EXPECT_TRUE(torch::allclose(copy->forward(tokens), layer->forward(tokens)));
}

TEST(TakeExperts, FixedTopKFallsWithTheExperts) {
  auto layer = small_layer(3);
  take_experts(*layer, {1, 2});
  EXPECT_EQ(layer->forward_with_routing(torch::randn({5, 6})).routing.top_k(), 2);
}

TEST(TakeExperts, RefusesBeforeItChangesAnything) {
  auto layer = small_layer();
  const auto before = layer->named_parameters()["router.weight"].detach().clone();
  EXPECT_THROW(take_experts(*layer, {}), ArgumentError);
  EXPECT_THROW(take_experts(*layer, {0, 4}), ArgumentError);
  EXPECT_THROW(take_experts(*layer, {-1}), ArgumentError);
  EXPECT_TRUE(torch::equal(before, layer->named_parameters()["router.weight"]));
}

TEST(TakeExperts, AListOfModulesKeepsObjectsCopiesAndForgets) {
  std::vector<torch::nn::AnyModule> modules;
  for (int e = 0; e < 3; ++e) modules.emplace_back(torch::nn::Linear(6, 5));
  auto layer = MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 3).bias(false)),
                   std::make_shared<ExpertListImpl>(modules, 5));
  torch::optim::SGD sgd(layer->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  const auto tokens = torch::randn({20, 6});
  step(sgd, layer->forward(tokens));
  const auto before = state_of(sgd, *layer);
  take_experts(*layer, {2, 2, 0}, &sgd);
  const auto after = state_of(sgd, *layer);
  EXPECT_TRUE(torch::equal(after.at("experts.0.weight.momentum_buffer"),
                           before.at("experts.2.weight.momentum_buffer")));
  EXPECT_TRUE(torch::equal(after.at("experts.1.weight.momentum_buffer"),
                           before.at("experts.2.weight.momentum_buffer")));
  EXPECT_EQ(sgd.param_groups()[0].params().size(), 1U + 3U * 2U);
  step(sgd, layer->forward(tokens));
  const auto parameters = layer->named_parameters();
  EXPECT_TRUE(parameters["experts.0.weight"].grad().defined());
  EXPECT_FALSE(parameters["experts.0.weight"].is_same(parameters["experts.1.weight"]));
}

TEST(TakeExperts, ImageExpertsTakeTheirRunningStatisticsAlong) {
  const auto net = ConvNetOptions(1, 8, 8).blocks({{2, 3, 1, true}}).hidden({4}).num_networks(3);
  auto mixture = Mixture(std::make_shared<OracleRouterImpl>(OracleRouterOptions({{0}, {1}, {2}})),
                         std::make_shared<ConvExpertsImpl>(ConvExpertsOptions(net, 3)));
  RouterContext context;
  context.task_id = torch::tensor({0, 1, 2, 0});
  const auto images = torch::randn({4, 1, 8, 8});
  mixture->forward(images, context);
  mixture->eval();
  const auto before = mixture->forward(images, context);
  take_experts(*mixture, {2, 1, 0});
  const auto after = mixture->forward(images, context);
  EXPECT_TRUE(torch::allclose(before.log_probs, after.log_probs, 1e-5, 1e-6));
  EXPECT_THROW(take_experts(*mixture, {1, 1}), ArgumentError);  // an oracle has one place a task
}

}  // namespace
}  // namespace moekit::nn
