#include "moekit/train/optimizers/normalized_gd.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::train {
namespace {

struct Bank {
  torch::Tensor weight = torch::zeros({3, 2, 2});
  torch::Tensor bias = torch::zeros({3, 2});
  torch::Tensor router = torch::zeros({3});
  NormalizedGd make(GradientNorm norm) {
    using torch::optim::OptimizerParamGroup;
    using torch::optim::SGDOptions;
    std::vector<OptimizerParamGroup> groups;
    groups.emplace_back(std::vector<torch::Tensor>{router}, std::make_unique<SGDOptions>(0.5));
    groups.emplace_back(std::vector<torch::Tensor>{weight, bias},
                        std::make_unique<SGDOptions>(0.1));
    return {std::move(groups), SGDOptions(0.1), {1}, norm};
  }
  Bank() {
    for (auto* t : {&weight, &bias, &router}) t->set_requires_grad(true);
    // Expert 0: weight gradient of norm 3, bias of norm 4; expert 1 none; expert 2 a huge one.
    weight.mutable_grad() = torch::zeros({3, 2, 2});
    bias.mutable_grad() = torch::zeros({3, 2});
    weight.grad()[0][0][0] = 3;
    bias.grad()[0][1] = 4;
    weight.grad()[2][1][1] = 1e10;
    router.mutable_grad() = torch::tensor({2.0F, 0.0F, 0.0F});
  }
};

TEST(NormalizedGd, DividesEachExpertByItsOwnNorm) {
  Bank bank;
  auto joint = bank.make(GradientNorm::kJoint);
  joint.step();
  EXPECT_NEAR(bank.weight[0][0][0].item<float>(), -0.1 * 3 / 5, 1e-6);
  EXPECT_NEAR(bank.bias[0][1].item<float>(), -0.1 * 4 / 5, 1e-6);
  EXPECT_NEAR(bank.weight[2][1][1].item<float>(), -0.1, 1e-6);
  EXPECT_NEAR(bank.router[0].item<float>(), -1.0, 1e-6);  // plain: 0.5 * 2
}

TEST(NormalizedGd, SumOfNormsIsTheReleasedRule) {
  Bank bank;
  auto optimizer = bank.make(GradientNorm::kSumOfNorms);
  optimizer.step();
  EXPECT_NEAR(bank.weight[0][0][0].item<float>(), -0.1 * 3 / 7, 1e-6);
  EXPECT_NEAR(bank.bias[0][1].item<float>(), -0.1 * 4 / 7, 1e-6);
}

TEST(NormalizedGd, AnExpertWithoutSamplesStaysAsItIs) {
  Bank bank;
  {
    const torch::NoGradGuard no_grad;
    bank.weight[1].fill_(0.25);
  }
  auto optimizer = bank.make(GradientNorm::kSumOfNorms);
  optimizer.step();
  EXPECT_TRUE(bank.weight[1].eq(0.25).all().item<bool>());
  EXPECT_TRUE(torch::isfinite(bank.weight).all().item<bool>());
}

TEST(NormalizedGd, RefusesParametersThatAreNoStack) {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<torch::Tensor>{torch::zeros({3, 2}), torch::zeros({4, 2})});
  EXPECT_THROW(
      NormalizedGd(std::move(groups), torch::optim::SGDOptions(0.1), {0}, GradientNorm::kJoint),
      ArgumentError);
}

}  // namespace
}  // namespace moekit::train
