// Small functions of nn: types, activations, runtimes, tables of kinds, frozen and edited experts.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "moekit/nn/balanced_assignment.h"
#include "moekit/nn/expert_kinds.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/nn/loss_kinds.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/router_kinds.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/surgery.h"
#include "moekit/nn/token_block.h"
#include "moekit/tensor/generator.h"
#include "tests/support/said.h"

namespace moekit::nn {
namespace {

using Places = std::vector<int64_t>;

TEST(Precision, TakesTheWiderTypeFloatAtLeast) {
  const auto of = [](torch::ScalarType type) { return torch::ones({2}, type); };
  const auto f16 = torch::kHalf, b16 = torch::kBFloat16, f32 = torch::kFloat32,
             f64 = torch::kFloat64;
  for (const auto& [a, b, want] : {std::tuple{b16, b16, f32},
                                   {f16, b16, f32},
                                   {f32, b16, f32},
                                   {b16, f64, f64},
                                   {f64, b16, f64},
                                   {f64, f32, f64}}) {
    EXPECT_EQ(compute_type(of(a), of(b)), want);
  }
  EXPECT_EQ(at_least_float(of(b16)).scalar_type(), f32);
  EXPECT_EQ(at_least_float(of(f64)).scalar_type(), f64);
}

TEST(Precision, BringsFloatsAloneToAModulesType) {
  torch::nn::Linear map(3, 2);
  map->to(torch::kFloat64);
  EXPECT_EQ(as_parameters(torch::ones({2}), *map).scalar_type(), torch::kFloat64);
  EXPECT_EQ(as_parameters(torch::ones({2}, torch::kLong), *map).scalar_type(), torch::kLong);
  EXPECT_FALSE(as_parameters({}, *map).defined());
  torch::nn::Module empty("Empty");
  EXPECT_EQ(as_parameters(torch::ones({2}, torch::kHalf), empty).scalar_type(), torch::kHalf);
  empty.register_parameter("count", torch::ones({2}, torch::kLong), false);
  EXPECT_EQ(as_parameters(torch::ones({2}, torch::kHalf), empty).scalar_type(), torch::kHalf);
  empty.register_parameter("a", torch::ones({2}, torch::kFloat64));
  EXPECT_EQ(as_parameters(torch::ones({2}), empty).scalar_type(), torch::kFloat64);
  empty.register_parameter("b", torch::ones({2}, torch::kFloat64));
  EXPECT_EQ(as_parameters(torch::ones({2}), empty).scalar_type(), torch::kFloat64);
  empty.register_parameter("c", torch::ones({2}));
  EXPECT_EQ(refusal([&] { as_parameters(torch::ones({2}), empty); }),
            "Empty: parameters must be of one type; a is double, c is float");
}

TEST(Activation, IsItsFormula) {
  const auto x = torch::tensor({-2.5, -0.5, 0.0, 0.5, 3.0}, torch::kFloat64);
  const auto relu = [](double v) { return v > 0 ? v : 0; };
  const auto gelu = [](double v) { return v / 2 * (1 + std::erf(v / std::sqrt(2.0))); };
  const auto silu = [](double v) { return v / (1 + std::exp(-v)); };
  using Formula = std::function<double(double)>;
  const std::map<Activation, Formula> formulas{
      {Activation::kIdentity, [](double v) { return v; }},
      {Activation::kRelu, relu},
      {Activation::kReglu, relu},
      {Activation::kGelu, gelu},
      {Activation::kGeglu, gelu},
      {Activation::kSilu, silu},
      {Activation::kSwiglu, silu},
      {Activation::kCubic, [](double v) { return v * v * v; }},
      {Activation::kTanh, [](double v) { return std::tanh(v); }},
      {Activation::kCelu, [](double v) { return v > 0 ? v : std::expm1(v); }},
      {Activation::kSquaredRelu, [&](double v) { return relu(v) * relu(v); }},
  };
  for (const auto& [activation, formula] : formulas) {
    const auto y = activate(x, activation);
    for (int64_t i = 0; i < 5; ++i) {
      EXPECT_NEAR(y[i].item<double>(), formula(x[i].item<double>()), 1e-12)
          << enum_name(activation);
    }
  }
  EXPECT_EQ(refusal([&] { activate(x, static_cast<Activation>(99)); }),
            "activate: unknown activation");
}

TEST(Runtime, HasTheThreadsItIsToldOrThoseOfLibtorch) {
  const auto threads = [](Runtime& runtime) {
    int count = 0;
    runtime.run([&](const kernels::Execution& execution) {
      count = execution.pool->num_threads();
      EXPECT_FALSE(execution.check_finite);
      EXPECT_NE(execution.workspace, nullptr);
    });
    return count;
  };
  Runtime three(3);
  EXPECT_EQ(threads(three), 3);
  EXPECT_EQ(threads(three), 3);
  Runtime as_libtorch;
  const int before = at::get_num_threads();
  for (const int count : {2, 1, 3}) {
    at::set_num_threads(count);
    EXPECT_EQ(threads(as_libtorch), count);
  }
  at::set_num_threads(before);
  EXPECT_EQ(Runtime::standard(), Runtime::standard());
  EXPECT_NE(Runtime::standard(), nullptr);
}

template <typename Kinds>
std::vector<std::pair<std::string, std::string>> rows_of() {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& row : Kinds::rows()) out.emplace_back(row.name, row.doc);
  return out;
}

TEST(Kinds, OfNnHaveNamesAndWhatTheyAre) {
  using Rows = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(
      rows_of<RouterKinds>(),
      (Rows{{"linear", "softmax of a linear map"},
            {"attentive", "keys from the experts"},
            {"scored", "sigmoid or other scores, groups of experts, correction by the load"},
            {"base", "as many tokens for every expert, dealt out by an auction"},
            {"gshard", "two experts, the second by chance"},
            {"expert_choice", "experts choose tokens; not for models of the next token"},
            {"relu", "no choice: every expert whose logit is above 0, held to few by a penalty"},
            {"hash", "a drawn expert for each token of a vocabulary"},
            {"oracle", "is told the label"}}));
  EXPECT_EQ(
      rows_of<ExpertKinds>(),
      (Rows{{"conv", "small convolutional networks"},
            {"mlp", "one hidden layer, plain or gated"},
            {"zero_computation", "as mlp, with constant, copy and zero experts behind them"},
            {"matrix_product", "as mlp, of matrix products whose central tensors all share (MPOE)"},
            {"linear", "one linear map"},
            {"patch", "filters over the patches"}}));
  EXPECT_EQ(rows_of<LossKinds>(), (Rows{{"importance", "equal mass per expert"},
                                        {"load", "equal number of tokens per expert"},
                                        {"balance", "mass away from loaded experts"},
                                        {"router_z", "small logits"},
                                        {"entropy", "sure decisions"},
                                        {"similarity", "similar samples share an expert"}}));
}

TEST(TokenBlock, IsAResidualOfTwoMapsAndTheIdentityAtFirst) {
  TokenBlock block(7, 2);
  ASSERT_EQ(block->down.sizes(), (Places{3, 7}));
  ASSERT_EQ(block->up.sizes(), (Places{7, 3}));
  EXPECT_EQ(block->named_parameters().keys(),
            (std::vector<std::string>{"down", "down_bias", "up", "up_bias"}));
  const auto x = torch::randn({2, 5, 7});
  EXPECT_TRUE(torch::equal(block(x), x));
  EXPECT_LE(block->down.abs().max().item<double>(), 1 / std::sqrt(7.0));
  EXPECT_GT(block->down.abs().max().item<double>(), 0.7 / std::sqrt(7.0));
  const torch::NoGradGuard no_grad;
  for (auto& parameter : block->parameters()) parameter.normal_();
  const auto hidden = (x.matmul(block->down.t()) + block->down_bias).clamp_min(0);
  EXPECT_TRUE(
      torch::allclose(block(x), x + hidden.matmul(block->up.t()) + block->up_bias, 1e-4, 1e-5));
  block->reset_parameters(tensor::make_generator(1));
  const auto first = block->down.clone();
  for (const auto& zero : {block->down_bias, block->up, block->up_bias}) {
    EXPECT_EQ(zero.abs().max().item<double>(), 0);
  }
  block->reset_parameters(tensor::make_generator(2));
  EXPECT_FALSE(torch::equal(block->down, first));
  block->reset_parameters(tensor::make_generator(1));
  EXPECT_TRUE(torch::equal(block->down, first));
  EXPECT_EQ(TokenBlock(4, 4)->down.size(0), 1);
  EXPECT_EQ(TokenBlock(4, 1)->down.size(0), 4);
  EXPECT_EQ(refusal([] { TokenBlock(4, 0); }),
            "TokenBlock: reduction must be 1..hidden_size = 1..4; got 0");
}

double total_of(const torch::Tensor& scores, const torch::Tensor& expert) {
  return scores.gather(1, expert.unsqueeze(1)).sum().item<double>();
}

TEST(BalancedAssignment, IsNearTheBestOfAllAssignments) {
  torch::manual_seed(1);
  for (int draw = 0; draw < 30; ++draw) {
    const auto scores = torch::randn({6, 3}, torch::kFloat64) * (draw % 3 == 0 ? 100 : 1);
    const auto expert = balanced_assignment(scores);
    EXPECT_TRUE(torch::equal(torch::bincount(expert), torch::full({3}, 2, torch::kLong)));
    Places order{0, 0, 1, 1, 2, 2};
    double best = -1e9;
    do {
      best = std::max(best, total_of(scores, torch::tensor(order, torch::kLong)));
    } while (std::next_permutation(order.begin(), order.end()));
    const double range = (scores.max() - scores.min()).item<double>();
    EXPECT_GE(total_of(scores, expert), best - 6 * range / 50) << draw;
    // Only differences count, and in units of their range.
    EXPECT_TRUE(torch::equal(expert, balanced_assignment(scores * 8)));
    EXPECT_TRUE(torch::equal(expert, balanced_assignment(scores.to(torch::kFloat32)))) << draw;
  }
}

TEST(BalancedAssignment, TakesEqualAndEndlessScoresOneExpertAndNoTokens) {
  const double endless = std::numeric_limits<double>::infinity();
  const auto dealt = [](const torch::Tensor& scores) {
    const auto expert = balanced_assignment(scores);
    EXPECT_FALSE(expert.requires_grad());
    return expert;
  };
  const auto even = torch::full({3}, 4, torch::kLong);
  EXPECT_TRUE(torch::equal(torch::bincount(dealt(torch::zeros({12, 3}))), even));
  EXPECT_TRUE(torch::equal(torch::bincount(dealt(torch::full({12, 3}, endless))), even));
  EXPECT_TRUE(torch::equal(dealt(torch::ones({5, 1})), torch::zeros({5}, torch::kLong)));
  EXPECT_EQ(dealt(torch::ones({0, 3})).numel(), 0);
  // What is no number counts as the least there is: 1 here.
  auto scores =
      torch::tensor({{9.0, 2.0}, {3.0, 1.0}, {endless, 5.0}, {2.0, std::nan("")}}, torch::kFloat64)
          .requires_grad_();
  EXPECT_TRUE(torch::equal(dealt(scores), torch::tensor({0, 0, 1, 1}, torch::kLong)) ||
              torch::equal(dealt(scores), torch::tensor({0, 1, 1, 0}, torch::kLong)));
  EXPECT_TRUE(torch::equal(dealt(torch::tensor({{1.0, 5.0}, {5.0, 1.0}})),
                           torch::tensor({1, 0}, torch::kLong)));
}

MoE bank_layer() {
  torch::manual_seed(2);
  return MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4)),
             std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 5, 4)));
}
MoE list_layer() {
  torch::manual_seed(3);
  std::vector<torch::nn::AnyModule> modules;
  for (int e = 0; e < 4; ++e) modules.emplace_back(torch::nn::Linear(6, 5));
  return MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4)),
             std::make_shared<ExpertListImpl>(modules, 5));
}

TEST(FreezeExperts, ClearsTheGradientsOfFrozenRowsAlone) {
  auto layer = bank_layer();
  layer->forward(torch::randn({20, 6})).square().sum().backward();
  std::map<std::string, torch::Tensor> before;
  for (const auto& item : layer->named_parameters()) {
    before[item.key()] = item.value().grad().clone();
  }
  clear_frozen_gradients(*layer->experts);  // of none
  freeze_experts(layer->routed_parts(), {2, 0});
  EXPECT_EQ(layer->experts->frozen_experts(), (Places{0, 2}));
  for (const auto& item : layer->named_parameters()) {
    const auto& grad = item.value().grad();
    if (item.key().rfind("router", 0) == 0) {
      EXPECT_TRUE(torch::equal(grad, before[item.key()]));
      continue;
    }
    EXPECT_TRUE(item.value().requires_grad());
    for (int64_t e = 0; e < 4; ++e) {
      const auto want = e % 2 == 0 ? torch::zeros_like(grad[e]) : before[item.key()][e];
      EXPECT_TRUE(torch::equal(grad[e], want)) << item.key() << e;
    }
  }
  freeze_experts(layer->routed_parts(), {1, 2});
  EXPECT_EQ(layer->experts->frozen_experts(), (Places{0, 1, 2}));
  unfreeze_experts(layer->routed_parts(), {0, 3});
  EXPECT_EQ(layer->experts->frozen_experts(), (Places{1, 2}));
  EXPECT_EQ(stacked_parameters(*layer->experts).size(), 4U);
  layer->zero_grad();
  for (auto& parameter : layer->parameters()) parameter.mutable_grad().reset();
  clear_frozen_gradients(*layer->experts);
  for (auto& parameter : layer->parameters()) EXPECT_FALSE(parameter.grad().defined());
}

TEST(FreezeExperts, StopsModulesOfTheirOwn) {
  auto layer = list_layer();
  layer->forward(torch::randn({20, 6})).square().sum().backward();
  freeze_experts(layer->routed_parts(), {1, 3});
  const auto separate = layer->experts->separate_parameters();
  const auto expect_frozen = [&](const Places& frozen) {
    for (size_t e = 0; e < 4; ++e) {
      const bool is_frozen =
          std::find(frozen.begin(), frozen.end(), static_cast<int64_t>(e)) != frozen.end();
      for (const auto& parameter : separate[e]) {
        EXPECT_EQ(parameter.requires_grad(), !is_frozen) << e;
      }
    }
  };
  expect_frozen({1, 3});
  for (size_t e = 0; e < 4; ++e) {
    for (const auto& parameter : separate[e]) EXPECT_EQ(parameter.grad().defined(), e % 2 == 0);
  }
  EXPECT_TRUE(stacked_parameters(*layer->experts).empty());
  unfreeze_experts(layer->routed_parts(), {3});
  expect_frozen({1});
  EXPECT_EQ(layer->experts->frozen_experts(), (Places{1}));
}

TEST(FreezeExperts, IsRememberedByPlaceWhereExpertsAreTaken) {
  auto layer = bank_layer();
  freeze_experts(layer->routed_parts(), {1, 3});
  take_experts(*layer, {3, 0, 1});
  EXPECT_EQ(layer->experts->frozen_experts(), (Places{0, 2}));
  EXPECT_EQ(layer->kept_experts(), (Places{3, 0, 1}));
  take_experts(*layer, {1, 2, 2});
  EXPECT_EQ(layer->experts->frozen_experts(), (Places{1, 2}));
  EXPECT_EQ(layer->kept_experts(), (Places{0, 1, 1}));
}

TEST(Freeze, StopsAndStartsAllOfAModule) {
  torch::nn::Linear map(3, 2);
  map->forward(torch::ones({4, 3})).sum().backward();
  freeze(*map);
  EXPECT_FALSE(map->is_training());
  for (const auto& parameter : map->parameters()) {
    EXPECT_FALSE(parameter.requires_grad());
    EXPECT_FALSE(parameter.grad().defined());
  }
  unfreeze(*map);
  EXPECT_TRUE(map->is_training());
  for (const auto& parameter : map->parameters()) EXPECT_TRUE(parameter.requires_grad());
}

TEST(Freeze, OfSeveralModulesIsTakenBackOneByOne) {
  const auto a = std::make_shared<torch::nn::LinearImpl>(3, 2);
  const auto b = std::make_shared<torch::nn::LinearImpl>(3, 2);
  FrozenModules frozen;
  EXPECT_TRUE(frozen.empty());
  frozen.add(a);
  frozen.add(b);
  EXPECT_FALSE(frozen.empty());
  for (const auto& module : {a, b}) {
    EXPECT_FALSE(module->is_training());
    module->train();
  }
  frozen.apply();
  EXPECT_FALSE(a->is_training());
  EXPECT_FALSE(b->is_training());
  frozen.remove(a);
  EXPECT_TRUE(a->is_training());
  EXPECT_TRUE(a->weight.requires_grad());
  EXPECT_FALSE(frozen.empty());
  b->train();
  frozen.apply();
  EXPECT_TRUE(a->is_training());
  EXPECT_FALSE(b->is_training());
}

TEST(CopyParameters, CopiesAllValuesAndBuffers) {
  torch::nn::BatchNorm1d a(3), b(3);
  const torch::NoGradGuard no_grad;
  for (auto& tensor : a->parameters()) tensor.normal_();
  a->forward(torch::randn({8, 3}) * 4 + 2);
  copy_parameters(*a, *b);
  for (const auto& item : a->named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), b->named_parameters()[item.key()]));
    EXPECT_FALSE(item.value().is_same(b->named_parameters()[item.key()]));
  }
  for (const auto& item : a->named_buffers()) {
    EXPECT_TRUE(torch::equal(item.value(), b->named_buffers()[item.key()])) << item.key();
  }
  EXPECT_EQ(b->named_buffers()["num_batches_tracked"].item<int64_t>(), 1);
}

TEST(ExpertEdit, CommitsOnceInOrderAndLeavesUndefinedTensorsAlone) {
  ExpertEdit edit(torch::tensor({1}));
  edit.take_rows({});
  EXPECT_TRUE(edit.rows.empty());
  auto parameter = torch::ones({2, 3}).requires_grad_();
  parameter.sum().backward();
  edit.take_rows(parameter);
  ASSERT_EQ(edit.rows.size(), 1U);
  EXPECT_TRUE(edit.rows[0].is_same(parameter));
  std::string said;
  edit.then([&] { said += "a"; });
  edit.then([&] { said += "b"; });
  EXPECT_TRUE(parameter.grad().defined());
  edit.commit();
  EXPECT_EQ(said, "ab");
  EXPECT_FALSE(parameter.grad().defined());
  EXPECT_TRUE(parameter.requires_grad());
  edit.commit();
  EXPECT_EQ(said, "ab");
  // A graph that saved the old rows refuses, even where sizes are the same.
  auto factor = torch::ones({2, 2}).requires_grad_();
  const auto x = torch::ones({2, 2}).requires_grad_();
  const auto old = (factor * x).sum();
  ExpertEdit swap(torch::tensor({1, 0}));
  swap.take_rows(factor);
  swap.commit();
  EXPECT_ANY_THROW(old.backward());
}

TEST(ExpertTensors, AreRowsOfStacksOrAModulesOwn) {
  auto layer = bank_layer();
  const auto& bank = dynamic_cast<MlpExpertsImpl&>(*layer->experts);
  const auto rows = expert_tensors(bank, 2);
  ASSERT_EQ(rows.size(), 4U);
  EXPECT_EQ(rows[0].first, "up_proj");
  for (const auto& [name, tensor] : rows) {
    const auto& whole = bank.named_parameters()[name];
    EXPECT_EQ(tensor.data_ptr(), whole[2].data_ptr()) << name;
    EXPECT_FALSE(tensor.requires_grad());
  }
  auto list = list_layer();
  const auto own = expert_tensors(*list->experts, 3);
  ASSERT_EQ(own.size(), 2U);
  EXPECT_EQ(own[0].first, "weight");
  EXPECT_EQ(own[1].first, "bias");
  EXPECT_EQ(own[0].second.data_ptr(), list->experts->named_parameters()["3.weight"].data_ptr());
  EXPECT_FALSE(own[0].second.requires_grad());
  const auto a = torch::ones({2}), b = torch::ones({2});
  EXPECT_TRUE(is_one_of(a, {b, a}));
  EXPECT_FALSE(is_one_of(a, {b}));
  EXPECT_FALSE(is_one_of(a, {}));
}

TEST(ForwardEach, SendsRowsThroughTheirExpertsOnEitherPath) {
  for (const auto type : {torch::kFloat32, torch::kFloat64}) {  // fused and not
    auto layer = bank_layer();
    layer->experts->to(type);
    const auto x = torch::randn({7, 6}, type).requires_grad_();
    const auto expert = torch::tensor({3, 0, 0, 2, 3, 3, 0}, torch::kLong);
    EXPECT_EQ(layer->experts->why_not_fused(x).empty(), type == torch::kFloat32);
    const auto y = forward_each(*layer->experts, x, expert);
    const auto all = layer->experts->forward_all(x).values;
    for (int64_t r = 0; r < 7; ++r) {
      EXPECT_TRUE(torch::allclose(y[r], all[expert[r].item<int64_t>()][r], 1e-4, 1e-5));
    }
    y.sum().backward();
    EXPECT_GT(x.grad().abs().sum().item<double>(), 0);
  }
}

}  // namespace
}  // namespace moekit::nn
