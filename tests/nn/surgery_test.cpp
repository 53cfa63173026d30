#include "moekit/nn/surgery.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include "moekit/core/error.h"

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

}  // namespace
}  // namespace moekit::nn
