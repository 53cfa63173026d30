#include "moekit/nn/surgery.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
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

TEST(Freeze, StopsAParameterInTheMiddleOfTraining) {
  const auto run = [](torch::optim::Optimizer& optimizer, torch::nn::Linear& module) {
    const auto x = torch::randn({8, 3});
    for (int i = 0; i < 3; ++i) step(optimizer, module->forward(x));
    const auto old = module->forward(x).sum();
    freeze(*module);
    const auto weight = module->weight.detach().clone();
    const auto state = state_of(optimizer, *module);
    old.backward();  // of a graph from before: gives a frozen parameter no gradient
    for (int i = 0; i < 3; ++i) {
      optimizer.zero_grad();
      optimizer.step();
    }
    EXPECT_FALSE(module->weight.grad().defined());
    EXPECT_TRUE(torch::equal(module->weight, weight));
    for (const auto& [name, tensor] : state_of(optimizer, *module)) {
      EXPECT_TRUE(torch::equal(tensor, state.at(name))) << name;
    }
    unfreeze(*module);
    EXPECT_TRUE(module->is_training());
    step(optimizer, module->forward(x));
    EXPECT_FALSE(torch::equal(module->weight, weight));
  };
  torch::nn::Linear a(3, 2);
  torch::optim::SGD sgd(a->parameters(),
                        torch::optim::SGDOptions(0.1).momentum(0.9).weight_decay(0.1));
  run(sgd, a);
  torch::nn::Linear b(3, 2);
  torch::optim::Adam adam(b->parameters(), torch::optim::AdamOptions(0.1).weight_decay(0.1));
  run(adam, b);
  torch::nn::Linear c(3, 2);
  torch::optim::AdamW adamw(c->parameters());
  run(adamw, c);
}

TEST(FrozenModules, GiveAModuleBack) {
  const auto module = std::make_shared<torch::nn::LinearImpl>(3, 2);
  FrozenModules frozen;
  frozen.add(module);
  frozen.remove(module);
  EXPECT_TRUE(frozen.empty());
  EXPECT_TRUE(module->weight.requires_grad());
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

/// Everything that an edit may touch, for a comparison bit by bit.
std::vector<torch::Tensor> snapshot(const MoE& layer, torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> out;
  for (const auto& parameter : layer->parameters()) {
    out.push_back(parameter.detach().clone());
    out.push_back(parameter.grad().defined() ? parameter.grad().clone() : torch::Tensor());
  }
  for (auto& group : optimizer.param_groups()) {
    out.push_back(torch::tensor(static_cast<int64_t>(group.params().size())));
  }
  out.push_back(torch::tensor(layer->experts->num_experts()));
  out.push_back(torch::tensor(layer->router->num_experts()));
  return out;
}

void expect_same(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].defined(), b[i].defined()) << i;
    if (!a[i].defined()) continue;
    EXPECT_TRUE(torch::equal(a[i], b[i])) << i;
  }
}

/// Experts that cannot be edited after they said they could.
class StubbornExpertsImpl : public MlpExpertsImpl {
 public:
  using MlpExpertsImpl::MlpExpertsImpl;
  void take_experts(ExpertEdit& edit) override {
    MlpExpertsImpl::take_experts(edit);
    throw ArgumentError("these experts stay");
  }
};

TEST(TakeExperts, LeavesModelAndOptimizerAsTheyWereWhenItIsRefused) {
  auto layer = small_layer();
  torch::optim::RMSprop unknown(layer->parameters());
  step(unknown, layer->forward(torch::randn({40, 6})));
  auto before = snapshot(layer, unknown);
  EXPECT_THROW(take_experts(*layer, {2, 0}, &unknown), ArgumentError);
  expect_same(before, snapshot(layer, unknown));

  layer = MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4).top_k(2)),
              std::make_shared<StubbornExpertsImpl>(MlpExpertsOptions(6, 8, 4)));
  torch::optim::Adam adam(layer->parameters());
  step(adam, layer->forward(torch::randn({40, 6})));
  before = snapshot(layer, adam);
  const auto state = state_of(adam, *layer);
  EXPECT_THROW(take_experts(*layer, {2, 0}, &adam), ArgumentError);
  expect_same(before, snapshot(layer, adam));
  for (const auto& [name, tensor] : state_of(adam, *layer)) {
    EXPECT_TRUE(torch::equal(tensor, state.at(name))) << name;
  }
  EXPECT_EQ(layer->kept_experts(), (std::vector<int64_t>{0, 1, 2, 3}));
  step(adam, layer->forward(torch::randn({40, 6})));
}

/// Backward of a graph that was made before an edit.
void expect_old_graph_refused(MoE layer, const torch::Tensor& input,
                              const std::vector<int64_t>& chosen) {
  const auto old = layer->forward(input).square().sum();
  take_experts(*layer, chosen);
  EXPECT_ANY_THROW(old.backward());
  for (auto& parameter : layer->parameters()) parameter.mutable_grad().reset();
  layer->forward(input).square().sum().backward();  // a new graph beside the old one
  for (const auto& parameter : layer->parameters()) {
    if (!parameter.grad().defined()) continue;
    EXPECT_EQ(parameter.grad().sizes(), parameter.sizes());
  }
}

TEST(TakeExperts, AGraphFromBeforeRefusesToRunBackward) {
  const auto tokens = torch::randn({20, 6}).requires_grad_();
  for (const std::vector<int64_t>& chosen : {std::vector<int64_t>{2, 0}, {1, 0, 3, 2}}) {
    for (const bool fused : {true, false}) {
      auto layer = MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4).top_k(2)),
                       std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4)),
                       MoEOptions().fused(fused));
      expect_old_graph_refused(layer, tokens, chosen);
      freeze(*layer);  // only the tokens get a gradient, through what the graph saved
      expect_old_graph_refused(layer, tokens, {1, 0});
    }
  }
  const auto net = ConvNetOptions(1, 8, 8).blocks({{2}}).hidden({4}).num_networks(3);
  auto mixture = Mixture(std::make_shared<OracleRouterImpl>(OracleRouterOptions({{0}, {1}, {2}})),
                         std::make_shared<ConvExpertsImpl>(ConvExpertsOptions(net, 3)));
  RouterContext context;
  context.task_id = torch::tensor({0, 1, 2, 0});
  const auto images = torch::randn({4, 1, 8, 8});
  const auto old = mixture->forward(images, context).log_probs.sum();
  take_experts(*mixture, {2, 1, 0});
  EXPECT_ANY_THROW(old.backward());
}

TEST(ExpertEdit, AGraphThatSavedNothingRefusesInWordsAndANewOneIsRight) {
  auto parameter = torch::arange(6.0).reshape({3, 2}).requires_grad_();
  const auto old = (parameter + 1).sum();
  ExpertEdit edit(torch::tensor({2, 0}));
  edit.take_rows(parameter);
  EXPECT_EQ(parameter.size(0), 3);  // nothing before commit()
  edit.commit();
  EXPECT_EQ(parameter.size(0), 2);
  try {
    old.backward();
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_NE(std::string(error.what()).find("run forward again"), std::string::npos);
  }
  EXPECT_FALSE(parameter.grad().defined());
  (parameter * 3).sum().backward();
  EXPECT_TRUE(torch::equal(parameter.grad(), torch::full({2, 2}, 3.0)));
}

TEST(TakeExperts, AFrozenBankStaysFrozenWithAndWithoutAnOptimizer) {
  std::vector<torch::nn::AnyModule> modules;
  for (int e = 0; e < 3; ++e) modules.emplace_back(torch::nn::Linear(6, 5));
  auto layer = MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 3)),
                   std::make_shared<ExpertListImpl>(modules, 5));
  freeze(*layer->experts);
  torch::optim::Adam adam(layer->router->parameters());
  const auto tokens = torch::randn({20, 6});
  step(adam, layer->forward(tokens));
  take_experts(*layer, {2, 2, 0}, &adam);  // the copy is in no group, as its source
  EXPECT_EQ(adam.param_groups()[0].params().size(), layer->router->parameters().size());
  for (const auto& parameter : layer->experts->parameters()) {
    EXPECT_FALSE(parameter.requires_grad());
  }
  step(adam, layer->forward(tokens));
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
