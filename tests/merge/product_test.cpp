#include "moekit/merge/product.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

#include "moekit/merge/average.h"
#include "moekit/merge/merge_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "tests/merge/expert_copies.h"

namespace moekit::merge {
namespace {

constexpr int64_t kIn = 12;
constexpr int64_t kRank = 3;

nn::MoE adapters(nn::Activation activation, bool bias) {
  torch::manual_seed(4);
  return nn::MoE(std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(kIn, 4).top_k(2)),
                 std::make_shared<nn::MlpExpertsImpl>(
                     nn::MlpExpertsOptions(kIn, kRank, 4).activation(activation).bias(bias)));
}

nn::RoutedLayer layer_of(nn::MoE& moe) { return nn::routed_layers(*moe)[0]; }

const torch::Tensor& named(const nn::ExpertTensors& expert, const char* name) {
  for (const auto& [own, tensor] : expert) {
    if (own == name) return tensor;
  }
  throw ArgumentError(name);
}

/// down up, in double.
torch::Tensor map_of(const nn::ExpertTensors& expert) {
  return named(expert, "down_proj")
      .to(torch::kFloat64)
      .mm(named(expert, "up_proj").to(torch::kFloat64));
}

TEST(MeanProduct, OfExpertsInOneSubspaceIsTheMeanOfTheirMapsExactly) {
  // The mean of rank 3: both take the same three directions of the input.
  auto moe = adapters(nn::Activation::kIdentity, false);
  auto a = copy_of(layer_of(moe), 0);
  auto b = copy_of(layer_of(moe), 1);
  for (auto& [name, tensor] : b) {
    if (name == "up_proj") tensor = torch::randn({kRank, kRank}).mm(named(a, "up_proj"));
  }
  const auto pair = *layer_of(moe).experts->matrix_pair();
  const auto merged = mean_product(pair, {a, b}, {1, 3});
  const auto wanted = map_of(a) * 0.25 + map_of(b) * 0.75;
  EXPECT_LT((map_of(merged) - wanted).norm().item<double>(), 1e-6 * wanted.norm().item<double>());
  // The mean of the matrices is another map.
  EXPECT_GT((map_of(average({a, b}, {1, 3})) - wanted).norm().item<double>(),
            0.1 * wanted.norm().item<double>());
  EXPECT_EQ(named(merged, "up_proj").sizes(), named(a, "up_proj").sizes());
}

TEST(MeanProduct, IsTheNearestOfItsRank) {
  auto moe = adapters(nn::Activation::kIdentity, false);
  const auto parts = layer_of(moe);
  const std::vector<nn::ExpertTensors> parents{copy_of(parts, 0), copy_of(parts, 1),
                                               copy_of(parts, 2)};
  const auto merged = mean_product(*parts.experts->matrix_pair(), parents, {1, 1, 1});
  const auto wanted = (map_of(parents[0]) + map_of(parents[1]) + map_of(parents[2])) / 3;
  const auto values = torch::linalg_svdvals(wanted);
  const double best = values.slice(0, kRank).norm().item<double>();
  EXPECT_NEAR((map_of(merged) - wanted).norm().item<double>(), best, 1e-6);
  // Shared evenly: both factors have the same singular values.
  const auto up = torch::linalg_svdvals(named(merged, "up_proj"));
  const auto down = torch::linalg_svdvals(named(merged, "down_proj"));
  EXPECT_TRUE(torch::allclose(up, down, 1e-4, 1e-6));
}

TEST(MeanProduct, KeepsEqualExpertsAndMeansOfBiases) {
  auto moe = adapters(nn::Activation::kIdentity, true);
  const auto parts = layer_of(moe);
  const auto pair = *parts.experts->matrix_pair();
  const auto a = copy_of(parts, 0);
  const auto b = copy_of(parts, 1);
  EXPECT_TRUE(equal(mean_product(pair, {a, a}, {1, 2}), a));
  const auto merged = mean_product(pair, {a, b}, {1, 1});
  const auto at_zero = [](const nn::ExpertTensors& expert) {
    return named(expert, "down_proj").mv(named(expert, "up_bias")) + named(expert, "down_bias");
  };
  EXPECT_TRUE(torch::allclose(at_zero(merged), (at_zero(a) + at_zero(b)) / 2, 1e-5, 1e-6));
}

TEST(MeanProduct, IsWhatMergingWritesWhereItIsAskedFor) {
  auto moe = adapters(nn::Activation::kIdentity, false);
  const auto parts = layer_of(moe);
  const auto wanted =
      mean_product(*parts.experts->matrix_pair(), {copy_of(parts, 0), copy_of(parts, 1)}, {1, 1});
  MergeOptions options;
  options.join.products = true;
  merge_into(parts, {0, 1}, {1, 1}, 3, options);
  EXPECT_TRUE(equal(copy_of(parts, 3), wanted));
}

TEST(MeanProduct, RefusesWhatIsNoProduct) {
  auto moe = adapters(nn::Activation::kRelu, false);
  EXPECT_NE(why_not_joined(layer_of(moe), {.products = true}).find("no products"),
            std::string::npos);
  EXPECT_THROW(merged_expert(layer_of(moe), {0, 1}, {1, 1}, {.products = true}), ArgumentError);
  auto linear = adapters(nn::Activation::kIdentity, false);
  EXPECT_THROW(merged_expert(layer_of(linear), {0, 1}, {1, 1}, {.align = true, .products = true}),
               ArgumentError);
  auto broken = copy_of(layer_of(linear), 0);
  named(broken, "up_proj")[0][0] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(mean_product(*layer_of(linear).experts->matrix_pair(),
                            {broken, copy_of(layer_of(linear), 1)}, {1, 1}),
               NumericError);
}

}  // namespace
}  // namespace moekit::merge
