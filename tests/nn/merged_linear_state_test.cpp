// What a layer of merged linear experts keeps between calls, draws, hands on and counts.
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "moekit/nn/merged_linear.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"
#include "tests/support/said.h"

namespace moekit::nn {
namespace {

struct KeptCase {
  int64_t inputs = 5, outputs = 4, experts = 7, top_k = 3;
  bool bias = true;
  RouterNoise noise = RouterNoise::kNone;
  MergedLinearOptions options = {};
};

MergedLinear merged_layer(const KeptCase& c) {
  torch::manual_seed(6);
  return MergedLinear(std::make_shared<LinearRouterImpl>(LinearRouterOptions(c.inputs, c.experts)
                                                             .top_k(c.top_k)
                                                             .aux_only(c.top_k == 1)
                                                             .noise(c.noise)),
                      std::make_shared<LinearExpertsImpl>(
                          LinearExpertsOptions(c.inputs, c.outputs, c.experts).bias(c.bias)),
                      c.options);
}

/// In evaluation mode, on the merged path.
MergedLinear keeping_layer(KeptCase c) {
  c.options.path(LinearPath::kMerged);
  auto layer = merged_layer(c);
  layer->eval();
  return layer;
}

TEST(MergedLinearState, KeepsMergedWeightsOfExpertsWithoutABias) {
  const torch::NoGradGuard no_grad;
  KeptCase c;
  c.bias = false;
  auto layer = keeping_layer(c);
  const auto x = torch::randn({1, 6, 5});
  const auto first = layer->forward_with_routing(x);
  EXPECT_FALSE(first.cached);
  const auto second = layer->forward_with_routing(x);
  EXPECT_TRUE(second.cached);
  EXPECT_TRUE(torch::equal(first.values, second.values));
  layer->experts->weight[2].mul_(3);
  EXPECT_FALSE(layer->forward_with_routing(x).cached);
}

TEST(MergedLinearState, MergesAnewWhereABiasCameOrWent) {
  const torch::NoGradGuard no_grad;
  auto layer = keeping_layer({});
  const auto x = torch::randn({1, 6, 5});
  const auto run = [&] { return layer->forward_with_routing(x); };
  EXPECT_FALSE(run().cached);
  const auto bias = layer->experts->bias;
  layer->experts->bias = torch::Tensor();
  EXPECT_FALSE(run().cached);
  EXPECT_TRUE(run().cached);
  layer->experts->bias = bias;
  EXPECT_FALSE(run().cached);
  EXPECT_TRUE(run().cached);
  layer->experts->bias = bias.clone();
  EXPECT_FALSE(run().cached);
}

TEST(MergedLinearState, MergesAnewForOtherExpertsOfTheSameWeight) {
  const torch::NoGradGuard no_grad;
  KeptCase c;
  c.top_k = 1;  // the weight is always 1
  auto layer = keeping_layer(c);
  auto router = std::dynamic_pointer_cast<LinearRouterImpl>(layer->router);
  router->weight.zero_();
  router->bias.zero_();
  router->bias[2] = 1;
  const auto x = torch::randn({1, 6, 5});
  layer->forward(x);
  EXPECT_TRUE(layer->forward_with_routing(x).cached);
  router->bias[4] = 2;
  const auto other = layer->forward_with_routing(x);
  EXPECT_FALSE(other.cached);
  EXPECT_TRUE(torch::allclose(other.values,
                              torch::linear(x, layer->experts->weight[4], layer->experts->bias[4]),
                              1e-5, 1e-6));
}

TEST(MergedLinearState, MergesAnewForOtherWeightsOfTheSameExpertsAndOtherTypes) {
  const torch::NoGradGuard no_grad;
  KeptCase c;
  c.top_k = 7;
  auto layer = keeping_layer(c);
  const auto x = torch::randn({1, 6, 5});
  layer->forward(x);
  EXPECT_TRUE(layer->forward_with_routing(x).cached);
  EXPECT_FALSE(layer->forward_with_routing(2 * x).cached);
  EXPECT_TRUE(layer->forward_with_routing(2 * x).cached);
  layer->router->to(torch::kFloat64);
  EXPECT_FALSE(layer->forward_with_routing(2 * x).cached);
  EXPECT_TRUE(layer->forward_with_routing(2 * x).cached);
}

TEST(MergedLinearState, KeepsNothingOfParametersThatCountNoChanges) {
  KeptCase c;
  c.options.path(LinearPath::kMerged);
  const torch::NoGradGuard no_grad;
  for (const bool of_weight : {true, false}) {
    auto layer = keeping_layer(c);
    const auto x = torch::randn({1, 6, 5});
    const auto want = layer->forward(x);
    {
      const c10::InferenceMode inference;
      auto& uncounted = of_weight ? layer->experts->weight : layer->experts->bias;
      uncounted = uncounted.clone();
    }
    layer->forget_merged();
    for (int i = 0; i < 2; ++i) {
      const auto output = layer->forward_with_routing(x);
      EXPECT_FALSE(output.cached) << of_weight;
      EXPECT_TRUE(torch::allclose(output.values, want, 1e-5, 1e-6));
    }
  }
}

TEST(MergedLinearState, AKeptWeightDecidesThePathOnlyWhereItMay) {
  const torch::NoGradGuard no_grad;
  auto layer = keeping_layer({});
  const auto x = torch::randn({1, 1, 5});  // one token: routing is cheaper
  layer->options.path(LinearPath::kAuto);
  EXPECT_EQ(layer->forward_with_routing(x).path, LinearPath::kRouted);
  layer->options.path(LinearPath::kMerged);
  layer->forward(x);
  layer->options.path(LinearPath::kAuto);
  const auto again = layer->forward_with_routing(x);
  EXPECT_EQ(again.path, LinearPath::kMerged);
  EXPECT_TRUE(again.cached);
  layer->options.path(LinearPath::kRouted);
  const auto routed = layer->forward_with_routing(x);
  EXPECT_EQ(routed.path, LinearPath::kRouted);
  EXPECT_FALSE(routed.cached);
  EXPECT_TRUE(torch::allclose(routed.values, again.values, 1e-5, 1e-6));
}

TEST(MergedLinearState, ATasksWeightsAreMergedUpToTheLimitInBytes) {
  const torch::NoGradGuard no_grad;
  KeptCase c;
  c.options.unit(GateUnit::kTask);
  auto layer = merged_layer(c);
  const auto task = torch::randn({5});
  const auto x = torch::randn({1, 2, 5});
  const LinearWork work{1, 2, 7, 3, 5, 4, 4};
  const double bytes = merged_bytes(work, merge_by(work));
  const auto path = [&] { return layer->forward_with_routing(x, {}, task).path; };
  EXPECT_EQ(choose_path(work, bytes), LinearPath::kRouted);
  layer->options.most_merged_bytes(bytes);
  EXPECT_EQ(path(), LinearPath::kRouted);  // in training nothing is kept
  layer->eval();
  layer->options.most_merged_bytes(bytes - 1);
  EXPECT_EQ(path(), LinearPath::kRouted);
  layer->options.most_merged_bytes(bytes);
  EXPECT_EQ(path(), LinearPath::kMerged);
}

TEST(MergedLinearState, TakesThePathThatTheCostModelSaysForItsSizes) {
  const torch::NoGradGuard no_grad;
  std::set<LinearPath> seen;
  for (const auto& [inputs, outputs] : {std::pair<int64_t, int64_t>{40, 9}, {9, 40}, {6, 90}}) {
    for (const int64_t top_k : {2, 3, 7}) {
      KeptCase c;
      c.inputs = inputs;
      c.outputs = outputs;
      c.top_k = top_k;
      for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
        auto layer = merged_layer(c);
        layer->experts->to(type);
        const auto bytes = static_cast<int64_t>(c10::elementSize(type));
        for (const int64_t length : {1, 3, 6, 10, 15, 22, 31, 44, 63, 90, 130, 300}) {
          const LinearWork work{2, 2 * length, 7, top_k, inputs, outputs, bytes};
          const auto path = layer->forward_with_routing(torch::randn({2, length, inputs})).path;
          EXPECT_EQ(path, choose_path(work, 1e9)) << inputs << " " << top_k << " " << length;
          seen.insert(path);
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), 2U);
}

TEST(MergedLinearState, NoiseIsOfTheGivenGeneratorAndOfTraining) {
  const torch::NoGradGuard no_grad;
  KeptCase c;
  c.noise = RouterNoise::kGaussian;
  auto layer = merged_layer(c);
  const auto x = torch::randn({3, 6, 5});
  const auto logits = [&](uint64_t seed, bool always = false) {
    RouterContext context;
    context.generator = tensor::make_generator(seed);
    context.always_noise = always;
    return layer->forward_with_routing(x, context).routing.logits;
  };
  EXPECT_TRUE(torch::equal(logits(1), logits(1)));
  EXPECT_FALSE(torch::equal(logits(1), logits(2)));
  layer->eval();
  EXPECT_TRUE(torch::equal(logits(1), logits(2)));
  EXPECT_FALSE(torch::equal(logits(1, true), logits(2, true)));
  EXPECT_TRUE(torch::equal(logits(1, true), logits(1, true)));
}

TEST(MergedLinearState, DrawsAllItsParametersFromOneGenerator) {
  KeptCase c;
  c.options.unit(GateUnit::kTask).num_tasks(40).task_size(5).token_reduction(2);
  auto layer = merged_layer(c);
  const auto before = layer->task_vectors.detach().clone();
  const double bound = 1 / std::sqrt(5.0);
  EXPECT_LE(before.abs().max().item<double>(), bound);
  EXPECT_GT(before.max().item<double>(), 0.9 * bound);
  EXPECT_LT(before.min().item<double>(), -0.9 * bound);
  const auto drawn = [&](uint64_t seed) {
    for (auto& parameter : layer->parameters()) {
      const torch::NoGradGuard no_grad;
      parameter.fill_(9);
    }
    layer->reset_parameters(tensor::make_generator(seed));
    std::map<std::string, torch::Tensor> out;
    for (const auto& item : layer->named_parameters()) {
      out[item.key()] = item.value().detach().clone();
    }
    return out;
  };
  const auto a = drawn(1), again = drawn(1), b = drawn(2);
  ASSERT_TRUE(a.count("task_vectors"));
  EXPECT_EQ(a.size(), 9U);
  for (const auto& [name, tensor] : a) {
    EXPECT_TRUE(torch::equal(tensor, again.at(name))) << name;
    EXPECT_LT(tensor.abs().max().item<double>(), 1.1) << name;
    const bool zeros = tensor.abs().max().item<double>() == 0;
    EXPECT_EQ(torch::equal(tensor, b.at(name)), zeros) << name;
  }
  EXPECT_LE(a.at("task_vectors").abs().max().item<double>(), bound);
  EXPECT_GT(a.at("task_vectors").max().item<double>(), 0.9 * bound);
}

TEST(MergedLinearState, SaysWhichSequenceEachGateIsOf) {
  auto layer = merged_layer({});
  RouterContext context;
  context.mask = torch::tensor({{true, true}, {false, false}, {false, true}});
  const auto output = layer->forward_with_routing(torch::randn({3, 2, 5}), context);
  EXPECT_TRUE(torch::equal(output.routing.sequence, torch::tensor({0, 2}, torch::kLong)));
  EXPECT_EQ(output.units.sizes(), (std::vector<int64_t>{2, 5}));
}

TEST(MergedLinearState, PaddingThatIsInTheMeanGoesThroughTheTokenBlockFirst) {
  const torch::NoGradGuard no_grad;
  for (const bool padding : {true, false}) {
    KeptCase c;
    c.options.mean_over_padding(padding).token_reduction(2);
    auto layer = merged_layer(c);
    layer->token_block->up.normal_();
    const auto x = torch::randn({2, 3, 5});
    RouterContext context;
    context.mask = torch::tensor({{true, true, true}, {true, false, true}});
    const auto output = layer->forward_with_routing(x, context);
    const auto blocked = layer->token_block(x);
    const auto want = padding ? blocked[1].mean(0) : (blocked[1][0] + blocked[1][2]) / 2;
    EXPECT_TRUE(torch::allclose(output.units[1], want, 1e-5, 1e-6)) << padding;
    EXPECT_EQ(output.values[1][1].abs().sum().item<double>(), 0);
    // A wrong mask is refused as one, not by an operation of libtorch.
    context.mask = torch::ones({2, 3});
    EXPECT_EQ(refusal([&] { layer->forward_with_routing(x, context); }),
              "mask: wanted one bool for each of 6 tokens; got [2, 3] float");
    context.mask = torch::ones({2, 2}, torch::kBool);
    EXPECT_EQ(refusal([&] { layer->forward_with_routing(x, context); }),
              "mask: wanted one bool for each of 6 tokens; got [2, 2] bool");
  }
}

TEST(MergedLinearState, CountsBlockRouterMergeAndExperts) {
  const torch::NoGradGuard no_grad;
  KeptCase c;
  c.top_k = 7;
  c.options.token_reduction(2).path(LinearPath::kMerged);
  auto layer = merged_layer(c);
  const auto parts = [&] {
    const tensor::OperationCounter counter;
    layer->forward(torch::randn({3, 11, 5}));
    return counter.parts();
  };
  using Parts = std::vector<std::pair<std::string, double>>;
  // 33 tokens of 5 through 2 and back; 3 gates of 5 on 7 experts; 3 x 7 gates times 7 matrices and
  // biases; 33 tokens through 4 x 5.
  EXPECT_EQ(parts(), (Parts{{"token_block", 2 * 33 * 2 * 10},
                            {"router", 2 * 3 * 5 * 7},
                            {"merge", 2 * 3 * 7 * (20 + 4)},
                            {"experts", 2 * 33 * 20}}));
  layer->options.path(LinearPath::kRouted);
  EXPECT_EQ(parts(), (Parts{{"token_block", 2 * 33 * 2 * 10},
                            {"router", 2 * 3 * 5 * 7},
                            {"experts", 2 * 33 * 7 * 20}}));
}

TEST(MergedLinearState, MergedWeightsAreTheSumsTheyAreSaidToBe) {
  const auto check = [](bool bias, int64_t top_k) {
    KeptCase c;
    c.bias = bias;
    c.top_k = top_k;
    auto layer = merged_layer(c);
    const auto routing = layer->router->forward(torch::randn({3, 5}), {});
    for (const auto by : {MergeBy::kGather, MergeBy::kProduct}) {
      const auto merged = merge_linear(*layer->experts, routing, by);
      ASSERT_EQ(merged.weight.sizes(), (std::vector<int64_t>{3, 4, 5}));
      ASSERT_EQ(merged.bias.defined(), bias);
      for (int64_t g = 0; g < 3; ++g) {
        auto weight = torch::zeros({4, 5});
        auto offset = torch::zeros({4});
        for (int64_t k = 0; k < top_k; ++k) {
          const auto e = routing.expert_index[g][k].item<int64_t>();
          weight = weight + routing.weight[g * top_k + k] * layer->experts->weight[e];
          if (bias) offset = offset + routing.weight[g * top_k + k] * layer->experts->bias[e];
        }
        EXPECT_TRUE(torch::allclose(merged.weight[g], weight, 1e-5, 1e-6));
        if (!bias) continue;
        EXPECT_TRUE(torch::allclose(merged.bias[g], offset, 1e-5, 1e-6));
      }
    }
  };
  for (const int64_t top_k : {1, 3, 7}) {
    check(true, top_k);
    check(false, top_k);
  }
}

}  // namespace
}  // namespace moekit::nn
