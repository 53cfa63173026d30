#include "moekit/nn/soft_moe.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>

#include "moekit/core/error.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

SoftMoE soft_mixture(int64_t experts, int64_t slots) {
  SoftMoE layer(SoftMoEOptions(4).slots_per_expert(slots),
                std::make_shared<MlpExpertsImpl>(
                    MlpExpertsOptions(4, 6, experts).activation(Activation::kSilu)));
  return layer;
}

TEST(SoftMoE, IsWhatTheDefinitionSays) {
  torch::manual_seed(1);
  auto layer = soft_mixture(3, 2);
  {
    const torch::NoGradGuard no_grad;
    layer->scale.fill_(1.7);
  }
  const auto x = torch::randn({2, 5, 4});
  const auto out = layer->forward_with_shares(x);
  ASSERT_EQ(out.values.sizes(), x.sizes());
  for (int64_t b = 0; b < 2; ++b) {
    const auto rows = x[b] / x[b].norm(2, {1}, true);
    const auto columns = layer->slots / layer->slots.norm(2, {0}, true);
    const auto logits = 1.7 * rows.matmul(columns);  // [T, E S]
    const auto slots = torch::softmax(logits, 0).t().matmul(x[b]);
    std::vector<torch::Tensor> made_of;
    for (int64_t s = 0; s < 6; ++s) {  // slots of an expert lie side by side
      made_of.push_back(layer->experts->forward_all(slots.narrow(0, s, 1)).values[s / 2][0]);
    }
    const auto want = torch::softmax(logits, 1).matmul(torch::stack(made_of));
    EXPECT_TRUE(torch::allclose(out.values[b], want, 1e-4, 1e-5));
  }
}

TEST(SoftMoE, SharesSumToOneAndMaskedTokensHaveNone) {
  torch::manual_seed(2);
  auto layer = soft_mixture(2, 3);
  const auto x = torch::randn({3, 5, 4}).requires_grad_();
  auto mask = torch::ones({3, 5}, torch::kBool);
  mask[0][4] = false;
  mask[2].fill_(false);  // a sequence of nothing
  const auto out = layer->forward_with_shares(x, mask);
  EXPECT_TRUE(torch::allclose(out.dispatch.sum(1).narrow(0, 0, 2), torch::ones({2, 6})));
  EXPECT_TRUE(torch::allclose(out.combine.sum(2), mask.to(torch::kFloat)));
  EXPECT_EQ(out.values[2].abs().sum().item<double>(), 0);
  EXPECT_EQ(out.values[0][4].abs().sum().item<double>(), 0);
  const auto alone = layer->forward_with_shares(x.narrow(0, 0, 1).narrow(1, 0, 4)).values;
  EXPECT_TRUE(torch::allclose(out.values[0].narrow(0, 0, 4), alone[0], 1e-4, 1e-5));
  out.values.sum().backward();
  EXPECT_TRUE(torch::isfinite(x.grad()).all().item<bool>());
  EXPECT_EQ(x.grad()[0][4].abs().sum().item<double>(), 0);
}

TEST(SoftMoE, GradientsAreThoseOfFiniteDifferences) {
  torch::manual_seed(3);
  SoftMoE layer(SoftMoEOptions(3).slots_per_expert(2),
                std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(3, 3, 2)));
  layer->to(torch::kFloat64);
  const auto x = torch::randn({1, 4, 3}, torch::kFloat64).requires_grad_();
  const auto weights = torch::randn({1, 4, 3}, torch::kFloat64);
  const auto value = [&] { return (layer->forward(x) * weights).sum(); };
  value().backward();
  auto checked = layer->parameters();
  checked.push_back(x);
  constexpr double kStep = 1e-6;
  for (const auto& tensor : checked) {
    const torch::NoGradGuard no_grad;
    auto flat = tensor.view({-1});
    const auto gradient = tensor.grad().view({-1});
    for (int64_t i = 0; i < flat.numel(); ++i) {
      const double before = flat[i].item<double>();
      flat[i] = before + kStep;
      const double up = value().item<double>();
      flat[i] = before - kStep;
      const double down = value().item<double>();
      flat[i] = before;
      EXPECT_NEAR(gradient[i].item<double>(), (up - down) / (2 * kStep), 1e-6);
    }
  }
}

TEST(SoftMoE, ALaterTokenReachesEarlierOnes) {
  const torch::NoGradGuard no_grad;
  auto layer = soft_mixture(2, 2);
  auto x = torch::randn({1, 5, 4});
  const auto before = layer->forward(x);
  x[0][4].fill_(3);
  EXPECT_FALSE(torch::allclose(layer->forward(x)[0][0], before[0][0], 0, 1e-6));
}

TEST(SoftMoE, ACloneSharesNothing) {
  const torch::NoGradGuard no_grad;
  auto layer = soft_mixture(2, 1);
  const auto x = torch::randn({1, 3, 4});
  const auto before = layer->forward(x);
  auto copy = std::dynamic_pointer_cast<SoftMoEImpl>(layer->clone());
  EXPECT_TRUE(torch::equal(copy->forward(x), before));
  copy->slots.fill_(1);
  copy->experts->parameters()[0].zero_();
  EXPECT_TRUE(torch::equal(layer->forward(x), before));
}

TEST(SoftMoE, RefusesWhatDoesNotFit) {
  EXPECT_THROW(SoftMoE(SoftMoEOptions(4), nullptr), ArgumentError);
  EXPECT_THROW(soft_mixture(2, 0), ArgumentError);
  EXPECT_THROW(SoftMoE(SoftMoEOptions(0), MlpExperts(MlpExpertsOptions(4, 8, 2)).ptr()),
               ArgumentError);
  SoftMoE narrow(SoftMoEOptions(1), MlpExperts(MlpExpertsOptions(1, 8, 2)).ptr());
  EXPECT_EQ(narrow->forward(torch::ones({1, 2, 1})).sizes(), (std::vector<int64_t>{1, 2, 1}));
  auto layer = soft_mixture(2, 1);
  EXPECT_THROW(layer->forward(torch::zeros({3, 4})), ArgumentError);
  EXPECT_THROW(layer->forward(torch::zeros({1, 0, 4})), ArgumentError);
  EXPECT_THROW(layer->forward_with_shares(torch::zeros({1, 2, 4}), torch::ones({1, 2})),
               ArgumentError);
}

TEST(SoftMoE, DrawsSlotsAndExpertsFromTheGeneratorAndStartsWithAScaleOfOne) {
  SoftMoE layer(SoftMoEOptions(64).slots_per_expert(5),
                std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(64, 6, 9)));
  ASSERT_EQ(layer->slots.sizes(), (std::vector<int64_t>{64, 45}));
  EXPECT_EQ(layer->scale.item<float>(), 1);
  EXPECT_NEAR(layer->slots.std().item<double>(), 1.0 / 8, 0.01);
  EXPECT_NEAR(layer->slots.mean().item<double>(), 0, 0.01);
  const auto drawn = [&](uint64_t seed) {
    const torch::NoGradGuard no_grad;
    layer->scale.fill_(3);
    layer->reset_parameters(tensor::make_generator(seed));
    EXPECT_EQ(layer->scale.item<float>(), 1);
    return std::pair(layer->slots.detach().clone(),
                     layer->experts->named_parameters()["up_proj"].detach().clone());
  };
  const auto a = drawn(1), again = drawn(1), b = drawn(2);
  EXPECT_TRUE(torch::equal(a.first, again.first));
  EXPECT_TRUE(torch::equal(a.second, again.second));
  EXPECT_FALSE(torch::equal(a.first, b.first));
  EXPECT_FALSE(torch::equal(a.second, b.second));
  const auto copy = std::dynamic_pointer_cast<SoftMoEImpl>(layer->clone());
  EXPECT_EQ(copy->named_parameters().keys(), layer->named_parameters().keys());
  EXPECT_FALSE(copy->scale.is_same(layer->scale));
  EXPECT_FALSE(copy->experts->parameters()[0].is_same(layer->experts->parameters()[0]));
}

TEST(SoftMoE, StandsTokensOfZerosAndOtherTypes) {
  torch::manual_seed(5);
  SoftMoE layer(SoftMoEOptions(4).slots_per_expert(2),
                std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(4, 6, 3).output_size(5)));
  const auto x = torch::randn({2, 7, 4});
  const auto want = layer->forward_with_shares(x);
  ASSERT_EQ(want.values.sizes(), (std::vector<int64_t>{2, 7, 5}));
  ASSERT_EQ(want.dispatch.sizes(), (std::vector<int64_t>{2, 7, 6}));
  const auto zeros = layer->forward_with_shares(torch::zeros({1, 3, 4}));
  EXPECT_TRUE(torch::allclose(zeros.dispatch, torch::full({1, 3, 6}, 1.0 / 3)));
  EXPECT_TRUE(torch::allclose(zeros.combine, torch::full({1, 3, 6}, 1.0 / 6)));
  EXPECT_TRUE(torch::allclose(layer->forward(x.to(torch::kFloat64)).to(torch::kFloat), want.values,
                              1e-5, 1e-6));
  layer->experts->to(torch::kBFloat16);
  const auto narrow = layer->forward_with_shares(x);
  EXPECT_EQ(narrow.values.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(narrow.combine.scalar_type(), torch::kFloat32);
  EXPECT_TRUE(torch::allclose(narrow.values.to(torch::kFloat), want.values, 5e-2, 2e-2));
}

TEST(SoftMoE, CountsItsRouterAndExperts) {
  auto layer = soft_mixture(3, 2);
  const tensor::OperationCounter counter;
  layer->forward(torch::randn({2, 5, 4}));
  const std::map<std::string, double> parts(counter.parts().begin(), counter.parts().end());
  EXPECT_EQ(parts.at("router"), 2.0 * 10 * 4 * 6);
  EXPECT_EQ(parts.at("experts"), 2.0 * 12 * 2 * 24);
  EXPECT_EQ(parts.size(), 3U);
}

}  // namespace
}  // namespace moekit::nn
