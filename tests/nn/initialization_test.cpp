#include "moekit/nn/initialization.h"

#include <gtest/gtest.h>

#include <cmath>

#include "moekit/tensor/generator.h"

namespace moekit::nn {
namespace {

TEST(InitUniformFanIn, FillsTheWholeRangeOnBothSides) {
  for (const int64_t fan_in : {int64_t{4}, int64_t{100}}) {
    auto weights = torch::zeros({20'000});
    init_uniform_fan_in(weights, fan_in, tensor::make_generator(3));
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
    EXPECT_LE(weights.abs().max().item<double>(), bound * (1 + 1e-6));
    EXPECT_GT(weights.max().item<double>(), 0.99 * bound);
    EXPECT_LT(weights.min().item<double>(), -0.99 * bound);
    EXPECT_NEAR(weights.mean().item<double>(), 0, 0.02 * bound);
    // Uniform: a variance of a third of the bound's square.
    EXPECT_NEAR(weights.var().item<double>() / (bound * bound), 1.0 / 3, 0.01);
  }
}

TEST(InitUniformFanIn, DrawsFromTheGeneratorHandedIn) {
  auto a = torch::zeros({10});
  auto b = torch::zeros({10});
  init_uniform_fan_in(a, 4, tensor::make_generator(3));
  init_uniform_fan_in(b, 4, tensor::make_generator(3));
  EXPECT_TRUE(torch::equal(a, b));
  init_uniform_fan_in(b, 4, tensor::make_generator(4));
  EXPECT_FALSE(torch::equal(a, b));
}

}  // namespace
}  // namespace moekit::nn
