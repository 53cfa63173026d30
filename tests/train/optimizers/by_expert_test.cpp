#include "moekit/train/optimizers/by_expert.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/core/error.h"
#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/surgery.h"
#include "moekit/train/config.h"

namespace moekit::train {
namespace {

using Tensors = std::map<std::string, torch::Tensor>;

Tensors state_of(torch::optim::Optimizer& optimizer, const torch::nn::Module& module) {
  Tensors out;
  const auto tensors = checkpoint::optimizer_tensors(optimizer, module);
  for (const auto& name : tensors.names()) out[name] = tensors.read(name).clone();
  return out;
}

/// Two experts of one weight each; the gradients are given by hand.
class Scalar {
 public:
  explicit Scalar(const std::string& toml) {
    const torch::NoGradGuard no_grad;
    weight().fill_(1);
    TrainConfig config;
    bind_config(parse_toml("lr = 0.1\n" + toml, "test"), config);
    optimizer_ = make_optimizer(config, *layer_);
  }
  /// Expert 0 has this gradient, expert 1 always 1. @return the weight of expert 0 after the step
  double step(float gradient) {
    weight().mutable_grad() = torch::tensor({gradient, 1.0F}).reshape({2, 1, 1});
    optimizer_->step();
    EXPECT_NE(weight()[1].item<float>(), last_of_other_);
    last_of_other_ = weight()[1].item<float>();
    return weight()[0].item<double>();
  }

 private:
  torch::Tensor weight() { return layer_->named_parameters()["experts.weight"]; }
  nn::MoE layer_{
      std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(1, 2)),
      std::make_shared<nn::LinearExpertsImpl>(nn::LinearExpertsOptions(1, 1, 2).bias(false))};
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  float last_of_other_ = 1;
};

constexpr const char* kSkip = "skip_idle_experts = true\n";

TEST(IdleExperts, SgdMovesThemByMomentumAndDecayUnlessItSkipsThem) {
  const std::string sgd = "optimizer = \"sgd\"\nmomentum = 0.9\nweight_decay = 0.5\n";
  Scalar moves(sgd);
  EXPECT_NEAR(moves.step(2), 0.75, 1e-6);    // 1 - 0.1 (2 + 0.5)
  EXPECT_NEAR(moves.step(0), 0.4875, 1e-6);  // momentum 0.9 * 2.5 + 0.5 * 0.75
  Scalar rests(sgd + kSkip);
  EXPECT_NEAR(rests.step(2), 0.75, 1e-6);
  EXPECT_EQ(rests.step(0), 0.75);
  EXPECT_NEAR(rests.step(1), 0.3875, 1e-6);  // 0.75 - 0.1 (0.9 * 2.5 + 1 + 0.5 * 0.75)
}

TEST(IdleExperts, AdamMovesThemByTheirMomentsUnlessItSkipsThem) {
  Scalar moves("optimizer = \"adam\"\n");
  EXPECT_NEAR(moves.step(2), 0.9, 1e-6);       // the first step has length lr
  EXPECT_NEAR(moves.step(0), 0.832994, 1e-5);  // m 0.18 / 0.19, v 0.003996 / 0.001999
  Scalar rests(std::string("optimizer = \"adam\"\n") + kSkip);
  const double after_one = rests.step(2);
  EXPECT_NEAR(after_one, 0.9, 1e-6);
  EXPECT_EQ(rests.step(0), after_one);
  EXPECT_EQ(rests.step(0), after_one);
  // Its second step, not the fourth: m 0.28 / 0.19, v 0.004996 / 0.001999.
  EXPECT_NEAR(rests.step(1), 0.806782, 1e-5);
}

TEST(IdleExperts, AdamWDecaysThemUnlessItSkipsThem) {
  const std::string adamw = "optimizer = \"adamw\"\nweight_decay = 0.5\n";
  Scalar moves(adamw);
  EXPECT_NEAR(moves.step(2), 0.85, 1e-6);      // 0.95 - 0.1
  EXPECT_NEAR(moves.step(0), 0.740494, 1e-5);  // 0.85 * 0.95 - 0.067006
  Scalar rests(adamw + kSkip);
  const double after_one = rests.step(2);
  EXPECT_EQ(rests.step(0), after_one);
  EXPECT_NEAR(rests.step(1), 0.85 * 0.95 - 0.093218, 1e-5);
}

TEST(IdleExperts, NormalizedGdMovesThemByMomentumUnlessItSkipsThem) {
  const std::string gd =
      "optimizer = \"normalized_gd\"\nmomentum = 0.9\n"
      "groups = [{ match = \"experts\", normalize = true }]\n";
  Scalar moves(gd);
  EXPECT_NEAR(moves.step(2), 0.9, 1e-6);
  EXPECT_NEAR(moves.step(0), 0.81, 1e-6);
  Scalar rests(gd + kSkip);
  EXPECT_NEAR(rests.step(2), 0.9, 1e-6);
  EXPECT_NEAR(rests.step(0), 0.9, 1e-6);
  EXPECT_NEAR(rests.step(5), 0.71, 1e-6);  // 0.9 - 0.1 (0.9 * 1 + 1)
}

TEST(IdleExperts, AreRefusedWhereNothingIsRouted) {
  torch::nn::Linear module(2, 2);
  TrainConfig config;
  bind_config(parse_toml(kSkip, "test"), config);
  EXPECT_THROW(make_optimizer(config, *module), ArgumentError);
}

nn::MoE small_layer() {
  torch::manual_seed(4);
  return nn::MoE(std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(6, 4).top_k(2)),
                 std::make_shared<nn::MlpExpertsImpl>(nn::MlpExpertsOptions(6, 8, 4)));
}

void train(nn::MoE& layer, torch::optim::Optimizer& optimizer, int steps) {
  for (int i = 0; i < steps; ++i) {
    optimizer.zero_grad();
    layer->forward(torch::randn({40, 6})).square().mean().backward();
    nn::clear_frozen_gradients(*layer->experts);
    optimizer.step();
  }
}

/// What a frozen expert 1 must be equal in, before and after.
Tensors rows_of_expert(const Tensors& tensors) {
  Tensors rows;
  for (const auto& [name, tensor] : tensors) {
    if (name.rfind("experts.", 0) == 0 && tensor.dim() > 0) rows[name] = tensor[1];
  }
  return rows;
}

Tensors parameters_of(const torch::nn::Module& module) {
  Tensors out;
  for (const auto& item : module.named_parameters())
    out[item.key()] = item.value().detach().clone();
  return out;
}

void expect_frozen_expert_rests(const std::string& toml) {
  auto layer = small_layer();
  TrainConfig config;
  bind_config(parse_toml("lr = 0.05\n" + toml, "test"), config);
  const auto optimizer = make_optimizer(config, *layer);
  train(layer, *optimizer, 3);
  auto routed = layer->routed_parts();
  nn::freeze_experts(routed, {1});
  EXPECT_EQ(layer->named_parameters()["experts.up_proj"].grad()[1].abs().sum().item<float>(), 0);
  const auto weights = parameters_of(*layer);
  const auto state = state_of(*optimizer, *layer);
  train(layer, *optimizer, 3);
  for (const auto& [name, row] : rows_of_expert(parameters_of(*layer))) {
    EXPECT_TRUE(torch::equal(row, weights.at(name)[1])) << toml << name;
    EXPECT_FALSE(torch::equal(parameters_of(*layer).at(name)[0], weights.at(name)[0])) << name;
  }
  for (const auto& [name, row] : rows_of_expert(state_of(*optimizer, *layer))) {
    const auto found = state.find(name);
    if (found == state.end()) continue;  // the count of its own steps, new
    EXPECT_TRUE(torch::equal(row, found->second[1])) << toml << name;
  }
  nn::unfreeze_experts(routed, {1});
  train(layer, *optimizer, 1);
  for (const auto& [name, row] : rows_of_expert(parameters_of(*layer))) {
    EXPECT_FALSE(torch::equal(row, weights.at(name)[1])) << toml << name;
  }
}

TEST(FrozenExperts, DoNotMoveByABitAndGoOnAfterwards) {
  expect_frozen_expert_rests("optimizer = \"sgd\"\nmomentum = 0.9\nweight_decay = 0.1\n");
  expect_frozen_expert_rests("optimizer = \"adam\"\nweight_decay = 0.1\n");
  expect_frozen_expert_rests("optimizer = \"adamw\"\nweight_decay = 0.1\n");
  expect_frozen_expert_rests(
      "optimizer = \"normalized_gd\"\nmomentum = 0.9\nweight_decay = 0.1\n"
      "groups = [{ match = \"experts\", normalize = true, weight_decay = 0.1 }]\n");
}

TEST(FrozenExperts, StayFrozenThroughAnEdit) {
  auto layer = small_layer();
  const auto optimizer = make_optimizer(TrainConfig{}, *layer);
  train(layer, *optimizer, 2);
  nn::freeze_experts(layer->routed_parts(), {1, 3});
  nn::take_experts(*layer, {3, 0, 1, 1}, optimizer.get());
  EXPECT_EQ(layer->experts->frozen_experts(), (std::vector<int64_t>{0, 2, 3}));
  const auto before = parameters_of(*layer);
  train(layer, *optimizer, 2);
  for (const auto& [name, tensor] : parameters_of(*layer)) {
    if (name.rfind("experts.", 0) != 0) continue;
    EXPECT_TRUE(torch::equal(tensor[0], before.at(name)[0])) << name;
    EXPECT_FALSE(torch::equal(tensor[1], before.at(name)[1])) << name;
    EXPECT_TRUE(torch::equal(tensor[3], before.at(name)[3])) << name;
  }
}

TEST(FrozenExperts, ThatAreModulesOfTheirOwnNeedNoGradient) {
  std::vector<torch::nn::AnyModule> modules;
  for (int e = 0; e < 3; ++e) modules.emplace_back(torch::nn::Linear(6, 6));
  auto layer = nn::MoE(std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(6, 3)),
                       std::make_shared<nn::ExpertListImpl>(modules, 6));
  TrainConfig config;
  bind_config(parse_toml("optimizer = \"sgd\"\nmomentum = 0.9\n", "test"), config);
  const auto optimizer = make_optimizer(config, *layer);
  train(layer, *optimizer, 2);
  nn::freeze_experts(layer->routed_parts(), {1});
  const auto before = parameters_of(*layer);
  train(layer, *optimizer, 2);
  nn::take_experts(*layer, {1, 1, 2}, optimizer.get());  // its copy is frozen, too
  train(layer, *optimizer, 2);
  const auto after = parameters_of(*layer);
  EXPECT_TRUE(torch::equal(before.at("experts.1.weight"), after.at("experts.0.weight")));
  EXPECT_TRUE(torch::equal(before.at("experts.1.weight"), after.at("experts.1.weight")));
  EXPECT_FALSE(torch::equal(before.at("experts.2.weight"), after.at("experts.2.weight")));
}

TEST(FrozenExperts, RefuseWhatCannotBe) {
  auto layer = small_layer();
  EXPECT_THROW(nn::freeze_experts(layer->routed_parts(), {0, 4}), ArgumentError);
  EXPECT_TRUE(layer->experts->frozen_experts().empty());
  const auto net =
      nn::ConvNetOptions(1, 8, 8).blocks({{2, 3, 1, true}}).hidden({4}).num_networks(2);
  auto moving = nn::MoE(std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(64, 2)),
                        std::make_shared<nn::ConvExpertsImpl>(nn::ConvExpertsOptions(net, 3)));
  EXPECT_THROW(nn::freeze_experts(moving->routed_parts(), {0}), ArgumentError);
}

}  // namespace
}  // namespace moekit::train
