#include "moekit/nn/fused_ffn.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/optim/sgd.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

constexpr std::array<Activation, 6> kFused{Activation::kRelu,        Activation::kGelu,
                                           Activation::kSquaredRelu, Activation::kReglu,
                                           Activation::kGeglu,       Activation::kSwiglu};

/// Two layers with the same weights, one fused and one composed of libtorch's operations.
struct Pair {
  Pair(const MlpExpertsOptions& options, int64_t top_k, double capacity = 0) {
    torch::manual_seed(5);
    fused = MoE(std::make_shared<LinearRouterImpl>(
                    LinearRouterOptions(options.hidden_size(), options.num_experts())
                        .top_k(top_k)
                        .combine_weights(CombineWeights::kProbs)),
                std::make_shared<MlpExpertsImpl>(options), MoEOptions().capacity_factor(capacity));
    composed = MoE(std::dynamic_pointer_cast<MoEImpl>(fused->clone()));
    composed->options.fused(false);
  }
  MoE fused{nullptr};
  MoE composed{nullptr};
};

/// Runs both and compares values and the gradients of tokens, router and experts.
void expect_same(Pair& pair, int64_t tokens, double tolerance) {
  torch::manual_seed(9);
  const auto x = torch::randn({tokens, pair.fused->router->parameters()[0].size(1)});
  const auto weight = torch::randn({tokens, pair.fused->experts->output_size()});
  std::vector<torch::Tensor> values, inputs;
  for (auto* layer : {&pair.fused, &pair.composed}) {
    auto input = x.clone().requires_grad_();
    (*layer)->zero_grad();
    const auto output = (*layer)->forward(input);
    (output * weight).sum().backward();
    values.push_back(output.detach());
    inputs.push_back(input.grad());
  }
  const auto close = [&](const torch::Tensor& a, const torch::Tensor& b) {
    if (a.numel() == 0) return a.sizes() == b.sizes();
    return (a - b).abs().max().item<double>() <= tolerance * (b.abs().max().item<double>() + 1e-3);
  };
  EXPECT_TRUE(close(values[0], values[1]));
  EXPECT_TRUE(close(inputs[0], inputs[1]));
  const auto mine = pair.fused->named_parameters();
  const auto theirs = pair.composed->named_parameters();
  for (const auto& p : mine) {
    const auto& want = theirs[p.key()].grad();
    ASSERT_TRUE(p.value().grad().defined()) << p.key();
    EXPECT_TRUE(close(p.value().grad(), want)) << p.key();
  }
}

TEST(FusedFfn, GivesTheComposedLayersNumbersAndGradients) {
  for (const auto activation : kFused) {
    for (const bool bias : {false, true}) {
      Pair pair(MlpExpertsOptions(18, 21, 5).output_size(10).activation(activation).bias(bias), 2);
      EXPECT_EQ(pair.fused->why_not_fused(torch::zeros({1, 18})), "");
      EXPECT_EQ(pair.composed->why_not_fused({}), "the layer's option fused is off");
      expect_same(pair, 33, 1e-5);
    }
  }
}

TEST(FusedFfn, WorksWithAllExpertsCapacityAndRecomputation) {
  Pair all(MlpExpertsOptions(8, 12, 4).activation(Activation::kSwiglu), 4);
  expect_same(all, 9, 1e-5);
  Pair dropping(MlpExpertsOptions(8, 12, 4), 2, 0.5);
  EXPECT_GT(dropping.fused->forward_with_routing(torch::randn({16, 8})).plan.num_dropped(), 0);
  expect_same(dropping, 16, 1e-5);
  Pair again(MlpExpertsOptions(8, 12, 4).activation(Activation::kGeglu).keep_activations(false), 2);
  expect_same(again, 16, 1e-5);
  Pair none(MlpExpertsOptions(8, 12, 4), 2);
  EXPECT_EQ(none.fused->forward(torch::zeros({0, 8})).sizes(), (std::vector<int64_t>{0, 8}));
}

TEST(FusedFfn, RoundsOperandsToBfloat16WhereAsked) {
  Pair pair(MlpExpertsOptions(32, 48, 4)
                .activation(Activation::kSwiglu)
                .compute(kernels::ComputeType::kBf16),
            2);
  // bfloat16 has 8 bits: a relative 2^-9 an operand, against the largest value.
  expect_same(pair, 40, 3e-2);
  const auto x = torch::randn({40, 32});
  EXPECT_FALSE(torch::equal(pair.fused->forward(x), pair.composed->forward(x)));
}

TEST(FusedFfn, GivesUnusedExpertsZeroGradientAlsoInMemoryUsedBefore) {
  MlpExperts experts(MlpExpertsOptions(6, 8, 3));
  const auto step = [&](int64_t expert) {
    experts->zero_grad();
    for (auto& p : experts->parameters()) p.mutable_grad() = torch::Tensor();
    const auto index = torch::full({4, 1}, expert, torch::kLong);
    const auto plan = make_plan(index, 3);
    experts->forward_fused(torch::ones({4, 6}), plan, torch::ones({4}), Runtime::standard())
        .sum()
        .backward();
  };
  for (const int64_t expert : {0, 2, 1, 0}) {
    step(expert);
    for (const auto& p : experts->parameters()) {
      for (int64_t e = 0; e < 3; ++e) {
        EXPECT_EQ(p.grad()[e].abs().sum().item<double>() > 0, e == expert);
      }
    }
  }
}

TEST(FusedFfn, KeepsApartWhatIsStillInUse) {
  // Two forward passes before the first backward; gradients kept by the caller stay as they are.
  Pair pair(MlpExpertsOptions(6, 8, 3), 1);
  auto& layer = pair.fused;
  const auto a = torch::randn({5, 6}), b = torch::randn({5, 6});
  const auto first = layer->forward(a), second = layer->forward(b);
  second.sum().backward();
  const auto up = [&] { return layer->experts->named_parameters()["up_proj"].grad(); };
  const auto of_second = up();
  const auto copy = of_second.clone();
  layer->experts->named_parameters()["up_proj"].mutable_grad() = torch::Tensor();
  first.sum().backward();
  EXPECT_TRUE(torch::equal(of_second, copy));
  pair.composed->forward(a).sum().backward();
  const auto want = pair.composed->experts->named_parameters()["up_proj"].grad();
  EXPECT_TRUE(torch::allclose(up(), want, 1e-4, 1e-5));
}

TEST(FusedFfn, KeepsNoMemoryOfEveryNumberOfRowsItSaw) {
  FusedFfn ffn;
  const FfnParameters parameters{{},
                                 torch::randn({1, 64, 16}).requires_grad_(),
                                 torch::randn({1, 16, 64}).requires_grad_(),
                                 {},
                                 {},
                                 {}};
  const auto step = [&](int64_t rows) {
    const auto x = torch::randn({rows, 16});
    const auto plan = make_plan(torch::zeros({rows, 1}, torch::kLong), 1);
    ffn.forward(x, parameters, plan, torch::ones({rows}), Activation::kRelu,
                kernels::ComputeType::kF32, true)
        .sum()
        .backward();
  };
  step(1000);
  const auto of_one = ffn.kept_bytes();
  EXPECT_GE(of_one, 1000 * 64 * sizeof(float));
  // Under a capacity each step has another number of rows.
  for (int64_t rows = 700; rows < 1000; ++rows) step(rows);
  EXPECT_LE(ffn.kept_bytes(), 8 * of_one);
}

TEST(FusedFfn, LeavesFrozenParametersAloneAndNeedsNoGraph) {
  Pair pair(MlpExpertsOptions(6, 8, 3), 2);
  for (auto& p : pair.fused->experts->parameters()) p.requires_grad_(false);
  auto x = torch::randn({7, 6}).requires_grad_();
  pair.fused->forward(x).sum().backward();
  EXPECT_TRUE(x.grad().defined());
  for (const auto& p : pair.fused->experts->parameters()) EXPECT_FALSE(p.grad().defined());
  const torch::NoGradGuard no_grad;
  EXPECT_FALSE(pair.fused->forward(x).requires_grad());
}

TEST(FusedFfn, SaysWhyNot) {
  const auto router = [](int64_t e) {
    return std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, e).top_k(2));
  };
  MoE tanh(router(3), std::make_shared<MlpExpertsImpl>(
                          MlpExpertsOptions(6, 8, 3).activation(Activation::kTanh)));
  EXPECT_EQ(tanh->why_not_fused({}), "activation tanh has no kernel");
  MoE linear(router(3), std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(6, 6, 3)));
  EXPECT_EQ(linear->why_not_fused({}), "this kind of experts has no fused kernel");
  MoE attentive(std::make_shared<AttentiveRouterImpl>(AttentiveRouterOptions(8, 3).top_k(2)),
                std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 3)));
  EXPECT_EQ(attentive->why_not_fused({}),
            "the router takes the features of all experts, so all of them run");
  MoE doubles(router(3), std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 3)));
  doubles->to(torch::kFloat64);
  EXPECT_EQ(doubles->why_not_fused(torch::zeros({2, 6}, torch::kFloat64)),
            "tokens are double; the kernels take float");
  EXPECT_EQ(doubles->forward(torch::zeros({2, 6}, torch::kFloat64)).scalar_type(), torch::kFloat64);
  EXPECT_THROW(linear->experts->forward_fused({}, {}, {}, Runtime::standard()), ArgumentError);
}

TEST(FusedFfn, LetsNanThroughForTheTrainerToFind) {
  Pair pair(MlpExpertsOptions(6, 8, 3), 1);
  auto x = torch::zeros({2, 6});
  x[1][2] = std::numeric_limits<float>::quiet_NaN();
  const auto plan = make_plan(torch::zeros({2, 1}, torch::kLong), 3);
  const auto y = pair.fused->experts->forward_fused(x, plan, torch::ones({2}), Runtime::standard());
  EXPECT_FALSE(torch::isnan(y[0]).any().item<bool>());
  EXPECT_TRUE(torch::isnan(y[1]).any().item<bool>());
}

/// Sums of outputs weighted alike on the kernels and out of libtorch's operations, for parameters
/// of which all or a few are to learn.
struct FfnInputs {
  torch::Tensor tokens, weight;
  FfnParameters parameters;
  RoutingPlan plan;

  FfnInputs(bool gated, bool bias) {
    torch::manual_seed(31);
    tokens = torch::randn({6, 5});
    weight = torch::rand({12}) + 0.5;
    parameters.up = torch::randn({4, 7, 5});
    parameters.down = torch::randn({4, 3, 7});
    if (gated) parameters.gate = torch::randn({4, 7, 5});
    if (bias) {
      if (gated) parameters.gate_bias = torch::randn({4, 7});
      parameters.up_bias = torch::randn({4, 7});
      parameters.down_bias = torch::randn({4, 3});
    }
    // None to expert 2, and of each of the others one assignment is dropped.
    plan = make_plan(torch::tensor({0, 1, 3, 1, 0, 3, 1, 3, 0, 1, 0, 3}, torch::kLong).view({6, 2}),
                     4, 3);
  }
  std::vector<torch::Tensor*> all() {
    std::vector<torch::Tensor*> out{&tokens, &weight};
    for (auto* p : {&parameters.gate, &parameters.up, &parameters.down, &parameters.gate_bias,
                    &parameters.up_bias, &parameters.down_bias}) {
      if (p->defined()) out.push_back(p);
    }
    return out;
  }
  Activation activation() const {
    return parameters.gate.defined() ? Activation::kSwiglu : Activation::kGelu;
  }
  torch::Tensor loss(bool fused, bool keep = true) const {
    FusedFfn ffn;
    const auto y =
        fused
            ? ffn.forward(tokens, parameters, plan, weight, activation(),
                          kernels::ComputeType::kF32, keep)
            : combine(composed_ffn(dispatch(tokens, plan), parameters, activation(), plan.offsets),
                      plan, weight);
    return (y * torch::linspace(-1, 2, y.numel()).view_as(y)).square().sum();
  }
};

TEST(FusedFfn, GivesEachInputItsGradientWhereItAloneLearns) {
  for (const bool gated : {true, false}) {
    for (const bool bias : {true, false}) {
      const size_t count = FfnInputs(gated, bias).all().size();
      for (size_t i = 0; i < count; ++i) {
        for (const bool keep : {true, false}) {
          FfnInputs inputs(gated, bias);
          auto& one = inputs.all()[i]->requires_grad_();
          const auto got = torch::autograd::grad({inputs.loss(true, keep)}, {one})[0];
          const auto want = torch::autograd::grad({inputs.loss(false)}, {one})[0];
          EXPECT_EQ(got.sizes(), want.sizes());
          EXPECT_TRUE(torch::allclose(got, want, 1e-4, 1e-4)) << i << gated << bias << keep;
          EXPECT_GT(want.abs().max().item<double>(), 0);
        }
      }
    }
  }
}

TEST(FusedFfn, HasASecondDerivativeWithAndWithoutBiasesAndGate) {
  for (const bool gated : {true, false}) {
    for (const bool bias : {true, false}) {
      FfnInputs inputs(gated, bias);
      std::vector<torch::Tensor> learned;
      for (auto* tensor : inputs.all()) learned.push_back(tensor->requires_grad_());
      std::vector<std::vector<torch::Tensor>> second;
      for (const bool fused : {true, false}) {
        const auto first = torch::autograd::grad({inputs.loss(fused)}, learned, {}, true, true);
        auto sum = torch::zeros({});
        for (const auto& gradient : first) sum = sum + gradient.square().mean();
        second.push_back(torch::autograd::grad({sum}, learned));
      }
      for (size_t i = 0; i < learned.size(); ++i) {
        const double size = second[1][i].abs().max().item<double>();
        EXPECT_LE((second[0][i] - second[1][i]).abs().max().item<double>(), 1e-3 * size) << i;
      }
    }
  }
}

TEST(FusedFfn, TakesTurnedTokensAndWeightsInDouble) {
  FfnInputs inputs(true, true);
  const auto want = inputs.loss(true).item<double>();
  inputs.tokens = inputs.tokens.t().contiguous().t();
  inputs.weight = inputs.weight.to(torch::kFloat64);
  EXPECT_NEAR(inputs.loss(true).item<double>(), want, 1e-5 * want);
}

TEST(FusedFfn, CountsTheRowsThatItMultiplies) {
  for (const bool gated : {true, false}) {
    const FfnInputs inputs(gated, true);
    EXPECT_EQ(inputs.plan.num_rows(), 9);
    const tensor::OperationCounter counter;
    inputs.loss(true);
    EXPECT_EQ(counter.total(), 2.0 * 9 * ((gated ? 2 : 1) * 7 * 5 + 3 * 7));
  }
}

TEST(FusedFfn, KeepsMemoryInEighthsOfAPowerOfTwoAndACopyHasItsOwn) {
  FusedFfn ffn;
  // 100'000 and 5'000 bytes: 13 of 8'192, and two pages.
  FfnParameters parameters;
  parameters.up = torch::randn({1, 50, 500}).requires_grad_();
  parameters.down = torch::randn({1, 25, 50}).requires_grad_();
  const auto plan = make_plan(torch::zeros({3, 1}, torch::kLong), 1);
  const auto x = torch::randn({3, 500});
  const auto run = [&](bool keep) {
    return ffn.forward(x, parameters, plan, torch::ones({3}), Activation::kRelu,
                       kernels::ComputeType::kF32, keep);
  };
  constexpr size_t kBoth = 13 * 8192 + 2 * 4096;
  for (int i = 0; i < 3; ++i) {
    {
      const auto gradients =
          torch::autograd::grad({run(false).sum()}, {parameters.up, parameters.down});
      EXPECT_EQ(ffn.kept_bytes(), 0U);
    }
    EXPECT_EQ(ffn.kept_bytes(), kBoth);
  }
  FusedFfn copy(ffn);
  EXPECT_EQ(copy.kept_bytes(), 0U);
  copy = ffn;
  EXPECT_EQ(copy.kept_bytes(), 0U);
  EXPECT_EQ(ffn.kept_bytes(), kBoth);
  // Activations of 3 rows come back when the graph is gone, a page of them.
  {
    const auto y = run(true);
    EXPECT_EQ(ffn.kept_bytes(), kBoth);
  }
  EXPECT_EQ(ffn.kept_bytes(), kBoth + 4096);
  const torch::NoGradGuard no_grad;
  run(true);
  EXPECT_EQ(ffn.kept_bytes(), kBoth + 4096);
}

TEST(StackedFfn, GivesValuesAndWhatTheActivationTakes) {
  for (const bool gated : {true, false}) {
    const FfnInputs inputs(gated, true);
    const auto& p = inputs.parameters;
    const auto [values, up] = stacked_ffn(inputs.tokens, p, inputs.activation());
    ASSERT_EQ(values.sizes(), (std::vector<int64_t>{4, 6, 3}));
    for (int64_t e = 0; e < 4; ++e) {
      const auto of_up = torch::linear(inputs.tokens, p.up[e], p.up_bias[e]);
      const auto hidden =
          gated ? torch::silu(torch::linear(inputs.tokens, p.gate[e], p.gate_bias[e])) * of_up
                : torch::gelu(of_up);
      EXPECT_TRUE(torch::allclose(up[e], of_up, 1e-5, 1e-5));
      EXPECT_TRUE(
          torch::allclose(values[e], torch::linear(hidden, p.down[e], p.down_bias[e]), 1e-4, 1e-5));
      const auto alone = composed_ffn(inputs.tokens, p, inputs.activation(),
                                      {0, e > 0 ? 0 : 6, e > 1 ? 0 : 6, e > 2 ? 0 : 6, 6});
      EXPECT_TRUE(torch::allclose(alone, values[e], 1e-4, 1e-5)) << e;
    }
  }
}

}  // namespace
}  // namespace moekit::nn
