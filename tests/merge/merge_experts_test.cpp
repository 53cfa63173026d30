#include "moekit/merge/merge_experts.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>
#include <torch/torch.h>

#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/merge/average.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/matrix_product_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"
#include "tests/merge/expert_copies.h"

namespace moekit::merge {
namespace {

nn::MoE small_layer(int64_t experts = 4) {
  return nn::MoE(std::make_shared<nn::LinearRouterImpl>(
                     nn::LinearRouterOptions(6, experts).top_k(2).bias(true)),
                 std::make_shared<nn::MlpExpertsImpl>(
                     nn::MlpExpertsOptions(6, 8, experts).activation(nn::Activation::kSwiglu)));
}

nn::RoutedLayer parts_of(nn::MoE& layer) { return nn::routed_layers(*layer)[0]; }

void train(nn::MoE& layer, torch::optim::Optimizer& optimizer, int steps) {
  for (int s = 0; s < steps; ++s) {
    optimizer.zero_grad();
    layer->forward(torch::randn({32, 6})).square().mean().backward();
    optimizer.step();
  }
}

std::map<std::string, torch::Tensor> state_of(torch::optim::Optimizer& optimizer,
                                              const torch::nn::Module& module) {
  std::map<std::string, torch::Tensor> out;
  const auto tensors = checkpoint::optimizer_tensors(optimizer, module);
  for (const auto& name : tensors.names()) out[name] = tensors.read(name).clone();
  return out;
}

std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "";
}

TEST(Average, IsTheMeanToTheLastBitAndLeavesEqualExpertsAsTheyAre) {
  torch::manual_seed(1);
  auto layer = small_layer();
  const auto parts = parts_of(layer);
  const auto a = copy_of(parts, 0);
  const auto b = copy_of(parts, 1);
  const auto mean = average({a, b}, {1, 1});
  for (size_t t = 0; t < a.size(); ++t) {
    EXPECT_TRUE(torch::equal(mean[t].second, (a[t].second + b[t].second) / 2)) << a[t].first;
  }
  EXPECT_TRUE(equal(average({a, a, a}, {1, 1, 1}), a));
  EXPECT_TRUE(equal(average({a, a, a}, {0.3, 2, 7}), a));
  const auto weighted = average({a, b}, {3, 1});
  EXPECT_TRUE(
      torch::allclose(weighted[0].second, a[0].second * 0.75 + b[0].second * 0.25, 1e-6, 1e-7));
  EXPECT_TRUE(equal(average({a, b}, {1, 0}), a));
}

TEST(Average, IsTheSameWhereverTensorsLie) {
  torch::manual_seed(2);
  for (const auto type : {torch::kFloat32, torch::kBFloat16, torch::kFloat64}) {
    const auto rows = torch::randn({3, 70, 90}).to(type);
    std::vector<nn::ExpertTensors> lying, turned;
    for (int64_t e = 0; e < 3; ++e) {
      lying.push_back({{"w", rows[e]}});
      turned.push_back({{"w", rows[e].t().contiguous().t()}});
    }
    const auto mean = average(lying, {1, 2, 4})[0].second;
    EXPECT_EQ(mean.scalar_type(), type);
    EXPECT_TRUE(torch::equal(mean, average(turned, {1, 2, 4})[0].second));
  }
}

TEST(Average, RefusesWeightsThatAreNoShares) {
  const nn::ExpertTensors one{{"w", torch::ones({2})}};
  const nn::ExpertTensors other{{"w", torch::ones({3})}};
  EXPECT_NE(refusal([&] { average({one}, {-1}); }).find("got -1"), std::string::npos);
  EXPECT_NE(refusal([&] { average({one}, {std::nan("")}); }).find("got nan"), std::string::npos);
  EXPECT_NE(refusal([&] {
              average({one, one}, {0, 0});
            }).find("positive; got 0"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              average({one, other}, {1, 1});
            }).find("has no w [2]"),
            std::string::npos);
  EXPECT_NE(refusal([&] { average({}, {}); }).find("0 experts"), std::string::npos);
}

// The paper's hypothesis: two noisy copies of one feature, merged, have half of either's error.
TEST(Average, HalvesTheErrorOfTwoNoisyCopies) {
  torch::manual_seed(2);
  const auto truth = torch::randn({100, 100});
  const auto noisy = [&] {
    return nn::ExpertTensors{{"w", truth + 0.3 * torch::randn_like(truth)}};
  };
  const auto a = noisy();
  const auto mean = average({a, noisy()}, {1, 1});
  const double of_parent = (a[0].second - truth).square().mean().item<double>();
  const double of_merged = (mean[0].second - truth).square().mean().item<double>();
  EXPECT_NEAR(of_merged / of_parent, 0.5, 0.025);
}

TEST(MergeInto, WritesTheMeanOverTheVictimAndTouchesNothingElse) {
  torch::manual_seed(3);
  auto layer = small_layer();
  const auto parts = parts_of(layer);
  torch::optim::Adam optimizer(layer->parameters(), torch::optim::AdamOptions(0.01));
  train(layer, optimizer, 3);
  const auto state = state_of(optimizer, *layer);
  std::vector<nn::ExpertTensors> before;
  for (int64_t e = 0; e < 4; ++e) before.push_back(copy_of(parts, e));
  const auto router = parts.router->parameters()[0].detach().clone();
  merge_into(parts, {0, 1}, {1, 1}, 2, {}, &optimizer);
  EXPECT_TRUE(equal(copy_of(parts, 2), average({before[0], before[1]}, {1, 1})));
  for (const int64_t e : {0, 1, 3}) {
    EXPECT_TRUE(equal(copy_of(parts, e), before[static_cast<size_t>(e)])) << e;
  }
  EXPECT_TRUE(torch::equal(parts.router->parameters()[0], router));
  // Moments of the victim are zero, all others are as they were.
  const auto after = state_of(optimizer, *layer);
  int moments = 0;
  for (const auto& [name, tensor] : state) {
    const auto& now = after.at(name);
    if (name.find("experts.") == std::string::npos || tensor.dim() == 0) {
      EXPECT_TRUE(torch::equal(now, tensor)) << name;
      continue;
    }
    ++moments;
    EXPECT_GT(tensor[2].abs().sum().item<double>(), 0) << name;
    EXPECT_EQ(now[2].abs().sum().item<double>(), 0) << name;
    for (const int64_t e : {0, 1, 3}) EXPECT_TRUE(torch::equal(now[e], tensor[e])) << name;
  }
  EXPECT_EQ(moments, 12);  // two of each of six parameters
  train(layer, optimizer, 1);
}

TEST(MergeInto, AlignedItMakesAShuffledCopyTheOriginal) {
  torch::manual_seed(4);
  auto layer = small_layer();
  const auto parts = parts_of(layer);
  {
    const torch::NoGradGuard no_grad;
    const auto original = nn::expert_tensors(*parts.experts, 0);
    auto copy = nn::expert_tensors(*parts.experts, 1);
    const auto order = torch::tensor({3, 1, 7, 0, 2, 6, 5, 4}, torch::kLong);
    for (size_t t = 0; t < original.size(); ++t) {
      const auto& [name, tensor] = original[t];
      const int64_t dim = name == "down_proj" ? 1 : 0;
      copy[t].second.copy_(name == "down_bias" ? tensor : tensor.index_select(dim, order));
    }
  }
  merge_into(parts, {0, 1}, {1, 1}, 2);
  EXPECT_FALSE(equal(copy_of(parts, 2), copy_of(parts, 0)));  // which plain averaging destroys
  MergeOptions options;
  options.join.align = true;
  merge_into(parts, {0, 1}, {1, 1}, 3, options);
  EXPECT_TRUE(equal(copy_of(parts, 3), copy_of(parts, 0)));
}

TEST(MergeInto, BlendsAndMovesTheRoutersRows) {
  torch::manual_seed(5);
  auto layer = small_layer();
  const auto parts = parts_of(layer);
  torch::optim::SGD optimizer(layer->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  train(layer, optimizer, 2);
  const auto victim = copy_of(parts, 3);
  const auto merged = merged_expert(parts, {0, 2}, {1, 3});
  const auto rows = parts.router->expert_rows();
  ASSERT_EQ(rows.size(), 2U);
  const auto weight = rows[0].detach().clone();
  MergeOptions options;
  options.blend = 0.25;
  options.router_rows = RouterRows::kMean;
  merge_into(parts, {0, 2}, {1, 3}, 3, options, &optimizer);
  const auto now = copy_of(parts, 3);
  EXPECT_TRUE(torch::allclose(now[0].second, victim[0].second * 0.75 + merged[0].second * 0.25,
                              1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(rows[0][3], weight[0] * 0.25 + weight[2] * 0.75, 1e-5, 1e-6));
  EXPECT_TRUE(torch::equal(rows[0].narrow(0, 0, 3), weight.narrow(0, 0, 3)));
  EXPECT_EQ(rows[0].grad()[3].abs().sum().item<double>(), 0);
  options.router_rows = RouterRows::kZero;
  merge_into(parts, {0, 1}, {1, 1}, 2, options);
  EXPECT_EQ(rows[0][2].abs().sum().item<double>(), 0);
  EXPECT_EQ(rows[1][2].abs().sum().item<double>(), 0);
}

TEST(MergeInto, TakesExpertsThatAreModules) {
  torch::manual_seed(6);
  std::vector<torch::nn::AnyModule> modules;
  for (int e = 0; e < 3; ++e) modules.emplace_back(torch::nn::Linear(6, 6));
  nn::MoE layer(std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(6, 3).top_k(2)),
                std::make_shared<nn::ExpertListImpl>(std::move(modules), 6));
  const auto parts = parts_of(layer);
  torch::optim::Adam optimizer(layer->parameters(), torch::optim::AdamOptions(0.01));
  train(layer, optimizer, 2);
  merge_into(parts, {0, 2}, {1, 1}, 1, {}, &optimizer);
  EXPECT_TRUE(equal(copy_of(parts, 1), average({copy_of(parts, 0), copy_of(parts, 2)}, {1, 1})));
  const auto state = state_of(optimizer, *layer);
  for (const auto& [name, tensor] : state) {
    EXPECT_EQ(
        name.find("experts.1.") == std::string::npos || name.find("unset") != std::string::npos,
        true)
        << name;
  }
  train(layer, optimizer, 1);
  MergeOptions aligned;
  aligned.join.align = true;
  EXPECT_NE(refusal([&] {
              merge_into(parts, {0, 2}, {1, 1}, 1, aligned);
            }).find("cannot tell"),
            std::string::npos);
}

TEST(MergeInto, LeavesWhatAllExpertsShare) {
  torch::manual_seed(9);
  nn::MatrixProductOptions options;
  options.mlp = nn::MlpExpertsOptions(6, 8, 5).bias(false);
  options.max_bond(3);  // fewer rows than experts
  nn::MoE layer(
      std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(6, 5).top_k(2).bias(true)),
      std::make_shared<nn::MatrixProductExpertsImpl>(options));
  torch::optim::Adam optimizer(layer->parameters());
  train(layer, optimizer, 3);
  const auto parts = parts_of(layer);
  const auto shared = parts.experts->shared_parameters();
  ASSERT_FALSE(shared.empty());
  std::vector<torch::Tensor> before;
  for (const auto& tensor : shared) before.push_back(tensor.detach().clone());
  const auto state = state_of(optimizer, *layer);
  merge_into(parts, {0, 1}, {1, 1}, 4, {}, &optimizer);
  for (size_t i = 0; i < shared.size(); ++i) EXPECT_TRUE(torch::equal(shared[i], before[i]));
  int64_t of_shared = 0;
  for (const auto& [name, tensor] : state_of(optimizer, *layer)) {
    if (name.find("_shared") == std::string::npos) continue;
    ++of_shared;
    ASSERT_TRUE(state.contains(name)) << name;
    EXPECT_TRUE(torch::equal(tensor, state.at(name))) << name;
  }
  EXPECT_GT(of_shared, 0);
}

TEST(MergeInto, RefusesBeforeAnythingIsChanged) {
  torch::manual_seed(7);
  auto layer = small_layer();
  const auto parts = parts_of(layer);
  nn::freeze_experts(parts, {3});
  const auto before = copy_of(parts, 2);
  const auto refused = [&](const std::vector<int64_t>& parents, const std::vector<double>& weights,
                           int64_t victim, const MergeOptions& options, const char* wanted,
                           torch::optim::Optimizer* optimizer = nullptr) {
    const auto text =
        refusal([&] { merge_into(parts, parents, weights, victim, options, optimizer); });
    EXPECT_NE(text.find(wanted), std::string::npos) << text << ", wanted " << wanted;
    EXPECT_TRUE(equal(copy_of(parts, 2), before));
  };
  refused({0, 1}, {1, 1}, 4, {}, "victim 4");
  refused({0, -1}, {1, 1}, 2, {}, "parent -1");
  refused({0, 0}, {1, 1}, 2, {}, "named twice");
  refused({0, 2}, {1, 1}, 2, {}, "parent and victim");
  refused({0, 1}, {1, 1}, 3, {}, "is frozen");
  refused({}, {}, 2, {}, "0 parents");
  refused({0, 1}, {1}, 2, {}, "1 weights");
  refused({0, 1}, {0, 0}, 2, {}, "positive");
  MergeOptions options;
  options.blend = std::nan("");
  refused({0, 1}, {1, 1}, 2, options, "blend must be 0..1; got nan");
  torch::optim::RMSprop unknown(layer->parameters(), torch::optim::RMSpropOptions(0.1));
  refused({0, 1}, {1, 1}, 2, {}, "of another kind", &unknown);
}

TEST(MergeInto, AGraphFromBeforeRefusesToRunBackward) {
  torch::manual_seed(8);
  auto layer = small_layer();
  const auto loss = layer->forward(torch::randn({8, 6})).square().mean();
  merge_into(parts_of(layer), {0, 1}, {1, 1}, 2);
  EXPECT_THROW(loss.backward(), std::exception);
}

}  // namespace
}  // namespace moekit::merge
