// Experts held against plain loops; first weights, hidden units, and how they lose experts.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/flat_experts.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/matrix_product_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"
#include "moekit/nn/experts/zero_computation_experts.h"
#include "moekit/tensor/generator.h"

namespace moekit::nn {
namespace {

torch::Tensor experts_normal(at::IntArrayRef sizes, uint64_t seed) {
  return torch::empty(sizes).normal_(0, 1, tensor::make_generator(seed));
}

/// Parameters by name are uniform within +-1/sqrt(fan_in), and the generator's alone.
void expect_first_weights(ExpertsImpl& experts, const std::map<std::string, int64_t>& fan_in) {
  experts.reset_parameters(tensor::make_generator(4));
  std::map<std::string, torch::Tensor> first;
  for (const auto& item : experts.named_parameters()) {
    first[item.key()] = item.value().detach().clone();
  }
  ASSERT_EQ(first.size(), fan_in.size());
  for (const auto& [name, values] : first) {
    const double most = 1 / std::sqrt(static_cast<double>(fan_in.at(name)));
    const double largest = values.abs().max().item<double>();
    EXPECT_LE(largest, most) << name;
    EXPECT_GT(largest, 0.75 * most) << name;
    EXPECT_LT(values.min().item<double>(), 0) << name;
  }
  experts.reset_parameters(tensor::make_generator(5));
  for (const auto& item : experts.named_parameters()) {
    EXPECT_FALSE(torch::equal(item.value(), first[item.key()])) << item.key();
  }
  experts.reset_parameters(tensor::make_generator(4));
  for (const auto& item : experts.named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), first[item.key()])) << item.key();
  }
}

/// All parameters and buffers have a row an expert, and those of `experts` stay.
void expect_experts_taken(ExpertsImpl& experts, const std::vector<int64_t>& index) {
  std::map<std::string, torch::Tensor> before;
  for (const auto& item : experts.named_parameters()) {
    before[item.key()] = item.value().detach().clone();
  }
  for (const auto& item : experts.named_buffers()) before[item.key()] = item.value().clone();
  const auto of = torch::tensor(index, torch::kLong);
  ExpertEdit edit(of);
  experts.take_experts(edit);
  EXPECT_EQ(edit.rows.size(), before.size());
  edit.commit();
  EXPECT_EQ(experts.num_experts(), of.numel());
  for (const auto& item : experts.named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), before[item.key()].index_select(0, of))) << item.key();
  }
  for (const auto& item : experts.named_buffers()) {
    EXPECT_TRUE(torch::equal(item.value(), before[item.key()].index_select(0, of))) << item.key();
  }
}

/// "count: tensor dim first per_unit, ..." of each layer.
std::string units_told(const ExpertsImpl& experts) {
  std::string out;
  const auto layers = experts.hidden_units().value();
  for (const auto& layer : layers) {
    out += concat(layer.count, ":");
    for (const auto& axis : layer.axes) {
      out += concat(" ", axis.tensor, " ", axis.dim, " ", axis.first, " ", axis.per_unit, ",");
    }
    out += "\n";
  }
  return out;
}

TEST(ExpertRules, FirstWeightsAreUniformByTheirFanIn) {
  LinearExperts linear(LinearExpertsOptions(6, 20, 3));
  expect_first_weights(*linear, {{"weight", 6}, {"bias", 6}});
  EXPECT_FALSE(LinearExperts(LinearExpertsOptions(6, 20, 3).bias(false))->bias.defined());
  MlpExperts mlp(MlpExpertsOptions(6, 20, 3).activation(Activation::kSwiglu));
  expect_first_weights(*mlp, {{"gate_proj", 6},
                              {"up_proj", 6},
                              {"down_proj", 20},
                              {"gate_bias", 6},
                              {"up_bias", 6},
                              {"down_bias", 20}});
  ConvExperts conv(ConvExpertsOptions(
      ConvNetOptions(2, 9, 12).blocks({{6, 3, 0, false}}).hidden({15}).num_networks(3), 7));
  expect_first_weights(*conv, {{"net.conv0_weight", 18},
                               {"net.conv0_bias", 18},
                               {"net.fc0_weight", 90},
                               {"net.fc0_bias", 90},
                               {"weight", 15},
                               {"bias", 15}});
  PatchExperts patch(PatchExpertsOptions(9, 4, 3).num_filters(5));
  expect_first_weights(*patch, {{"weight", 9}, {"bias", 9}});
  PatchExperts small(PatchExpertsOptions(9, 4, 3).num_filters(5).init_scale(0.5));
  small->reset_parameters(tensor::make_generator(4));
  patch->reset_parameters(tensor::make_generator(4));
  EXPECT_TRUE(torch::allclose(small->weight, patch->weight * 0.5));
  EXPECT_TRUE(torch::allclose(small->bias, patch->bias * 0.5));
  MlpExperts adapters(
      MlpExpertsOptions(6, 20, 3).activation(Activation::kSwiglu).init(ExpertInit::kZeroOutput));
  for (const auto& item : adapters->named_parameters()) {
    const bool drawn = item.key() == "gate_proj" || item.key() == "up_proj";
    EXPECT_EQ(item.value().abs().sum().item<double>() > 0, drawn) << item.key();
  }
}

TEST(ExpertRules, ConstantExpertsBeginWithNormalVectors) {
  ZeroComputationOptions options;
  options.mlp = MlpExpertsOptions(50, 7, 2);
  options.constant_experts(40);
  ZeroComputationExperts experts(options);
  experts->reset_parameters(tensor::make_generator(4));
  const auto first = experts->constant.detach().clone();
  EXPECT_NEAR(first.mean().item<double>(), 0, 0.1);
  EXPECT_NEAR(first.std().item<double>(), 1, 0.06);
  const double most = 1 / std::sqrt(50.0);
  EXPECT_LE(experts->blend.abs().max().item<double>(), most);
  EXPECT_GT(experts->blend.abs().max().item<double>(), 0.9 * most);
  EXPECT_EQ(experts->blend.sizes().vec(), (std::vector<int64_t>{40, 2, 50}));
  experts->reset_parameters(tensor::make_generator(5));
  EXPECT_FALSE(torch::equal(experts->constant, first));
  experts->reset_parameters(tensor::make_generator(4));
  EXPECT_TRUE(torch::equal(experts->constant, first));
  EXPECT_TRUE(experts->constant.requires_grad());
}

TEST(ExpertRules, ExpertsAreTakenWithAllTheirTensors) {
  const std::vector<int64_t> index = {3, 0, 2};
  LinearExperts linear(LinearExpertsOptions(6, 5, 4));
  expect_experts_taken(*linear, index);
  EXPECT_EQ(linear->options.num_experts(), 3);
  MlpExperts mlp(MlpExpertsOptions(6, 9, 4).activation(Activation::kSwiglu));
  expect_experts_taken(*mlp, index);
  EXPECT_EQ(mlp->options.num_experts(), 3);
  PatchExperts patch(PatchExpertsOptions(6, 5, 4));
  expect_experts_taken(*patch, index);
  EXPECT_EQ(patch->options.num_experts(), 3);
  ConvExperts conv(ConvExpertsOptions(ConvNetOptions(2, 9, 12)
                                          .blocks({{3, 3, 0, true}, {2, 2, 0, false}})
                                          .hidden({4, 3})
                                          .num_networks(4),
                                      5));
  conv->forward_all(experts_normal({6, 2, 9, 12}, 1));  // moves the running statistics
  expect_experts_taken(*conv, index);
  EXPECT_EQ(conv->options.net().num_networks(), 3);
  EXPECT_EQ(conv->net->options.num_networks(), 3);
  EXPECT_EQ(conv->forward_all(experts_normal({2, 2, 9, 12}, 1)).values.sizes().vec(),
            (std::vector<int64_t>{3, 2, 5}));
}

TEST(ExpertRules, HiddenUnitsLieWhereTheySay) {
  EXPECT_EQ(units_told(MlpExpertsImpl(MlpExpertsOptions(6, 9, 2))),
            "9: up_proj 0 0 1, down_proj 1 0 1, up_bias 0 0 1,\n");
  EXPECT_EQ(units_told(MlpExpertsImpl(MlpExpertsOptions(6, 9, 2).bias(false))),
            "9: up_proj 0 0 1, down_proj 1 0 1,\n");
  EXPECT_EQ(
      units_told(MlpExpertsImpl(MlpExpertsOptions(6, 9, 2).activation(Activation::kSwiglu))),
      "9: up_proj 0 0 1, down_proj 1 0 1, gate_proj 0 0 1, up_bias 0 0 1, gate_bias 0 0 1,\n");
  EXPECT_EQ(units_told(PatchExpertsImpl(PatchExpertsOptions(6, 3, 2).num_filters(4))),
            "4: weight 0 0 1, bias 0 0 1,\n4: weight 0 4 1, bias 0 4 1,\n"
            "4: weight 0 8 1, bias 0 8 1,\n");
  EXPECT_EQ(
      units_told(ConvExpertsImpl(ConvExpertsOptions(
          ConvNetOptions(2, 14, 16).blocks({{3, 3, 0, true}, {2, 3, 0, false}}).hidden({5, 4}),
          6))),
      "3: net.conv0_weight 0 0 1, net.conv0_bias 0 0 1, net.bn0_weight 0 0 1, net.bn0_bias 0 0 1, "
      "net.bn0_running_mean 0 0 1, net.bn0_running_var 0 0 1, net.conv1_weight 1 0 1,\n"
      "2: net.conv1_weight 0 0 1, net.conv1_bias 0 0 1, net.fc0_weight 1 0 4,\n"
      "5: net.fc0_weight 0 0 1, net.fc0_bias 0 0 1, net.fc1_weight 1 0 1,\n"
      "4: net.fc1_weight 0 0 1, net.fc1_bias 0 0 1, weight 1 0 1,\n");
  EXPECT_EQ(units_told(LinearExpertsImpl(LinearExpertsOptions(6, 5, 2))), "");
}

TEST(ExpertRules, FlatExpertsPassImagesAndNamesOn) {
  LayerSite images{{2, 3, 4}, 3, 5};
  const auto inner = std::make_shared<MlpExpertsImpl>(
      MlpExpertsOptions(24, 7, 3).output_size(5).activation(Activation::kIdentity));
  const auto flat = flatten_images(inner, images);
  ASSERT_NE(flat, inner);
  EXPECT_EQ(flatten_images(inner, LayerSite{{24}, 3, 5}), inner);
  const auto x = experts_normal({6, 2, 3, 4}, 2);
  EXPECT_TRUE(torch::equal(flat->forward_all(x).values, inner->forward_all(x.flatten(1)).values));
  const auto plan = make_plan(torch::tensor({{2}, {0}, {2}, {1}, {0}, {0}}), 3);
  const auto rows = dispatch(x, plan);
  EXPECT_TRUE(
      torch::equal(flat->forward_routed(rows, plan), inner->forward_routed(rows.flatten(1), plan)));
  EXPECT_EQ(units_told(*flat),
            "7: inner.up_proj 0 0 1, inner.down_proj 1 0 1, inner.up_bias 0 0 1,\n");
  const auto pair = flat->matrix_pair().value();
  EXPECT_EQ(pair.up, "inner.up_proj");
  EXPECT_EQ(pair.down, "inner.down_proj");
  EXPECT_EQ(pair.up_bias, "inner.up_bias");
  EXPECT_EQ(pair.down_bias, "inner.down_bias");
  FlatExpertsImpl bare(std::make_shared<MlpExpertsImpl>(
      MlpExpertsOptions(24, 7, 3).activation(Activation::kIdentity).bias(false)));
  EXPECT_EQ(bare.matrix_pair()->up_bias, "");
  EXPECT_EQ(bare.matrix_pair()->down_bias, "");
  FlatExpertsImpl linear(std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(24, 5, 3)));
  EXPECT_EQ(units_told(linear), "");
  FlatExpertsImpl list(std::make_shared<ExpertListImpl>(
      std::vector<torch::nn::AnyModule>{torch::nn::AnyModule(torch::nn::Linear(24, 5))}, 5));
  EXPECT_FALSE(list.hidden_units().has_value());
  EXPECT_FALSE(linear.matrix_pair().has_value());
  // Not a product of two matrices: what has an activation or levels.
  EXPECT_FALSE(MlpExpertsImpl(MlpExpertsOptions(6, 9, 2)).matrix_pair().has_value());
  EXPECT_FALSE(MlpExpertsImpl(MlpExpertsOptions(6, 9, 2)
                                  .activation(Activation::kIdentity)
                                  .weights(WeightLevels::kTernary))
                   .matrix_pair()
                   .has_value());
  const auto before = flat->forward_all(x).values.detach();
  const auto copy = std::dynamic_pointer_cast<ExpertsImpl>(flat->clone());
  copy->reset_parameters(tensor::make_generator(1));
  EXPECT_FALSE(torch::equal(copy->forward_all(x).values, before));
  EXPECT_TRUE(torch::equal(flat->forward_all(x).values, before));
  const auto drawn = copy->forward_all(x).values.detach();
  copy->reset_parameters(tensor::make_generator(2));
  copy->reset_parameters(tensor::make_generator(1));
  EXPECT_TRUE(torch::equal(copy->forward_all(x).values, drawn));
}

/// A network of a stack, from libtorch's own operations.
torch::Tensor plain_network(const ConvNetStackImpl& net, int64_t e, const torch::Tensor& images,
                            bool training) {
  auto x = images;
  for (size_t b = 0; b < net.blocks.size(); ++b) {
    const auto& block = net.blocks[b];
    x = torch::conv2d(x, block.weight[e], block.bias[e], 1, net.options.blocks()[b].padding);
    if (block.bn_weight.defined()) {
      const auto mean = training ? x.mean(at::IntArrayRef{0, 2, 3}) : block.running_mean[e];
      const auto var =
          training ? x.var(at::IntArrayRef{0, 2, 3}, /*unbiased=*/false) : block.running_var[e];
      const auto shape = [](const torch::Tensor& t) { return t.view({1, -1, 1, 1}); };
      x = (x - shape(mean)) / (shape(var) + 1e-5).sqrt() * shape(block.bn_weight[e]) +
          shape(block.bn_bias[e]);
    }
    x = torch::max_pool2d(torch::relu(x), 2);
  }
  x = x.flatten(1);
  for (size_t l = 0; l < net.layers.size(); ++l) {
    if (l > 0) x = torch::relu(x);
    x = torch::linear(x, net.layers[l].weight[e], net.layers[l].bias[e]);
  }
  return x;
}

TEST(ExpertRules, StackedNetworksAreThoseOfPlainOperations) {
  torch::manual_seed(6);
  using Blocks = ConvNetOptions::Blocks;
  for (const int64_t channels : {1, 2}) {  // one channel: the first block is fused
    for (const auto& blocks :
         {Blocks{}, Blocks{{3, 3, 0, true}}, Blocks{{3, 3, 0, false}, {2, 2, 1, true}},
          Blocks{{3, 2, 1, true}, {4, 3, 0, true}}}) {
      ConvNetStack net(
          ConvNetOptions(channels, 14, 11).blocks(blocks).hidden({5, 4}).num_networks(3));
      for (auto& block : net->blocks) {
        if (!block.bn_weight.defined()) continue;
        const torch::NoGradGuard no_grad;
        block.bn_weight.add_(torch::randn_like(block.bn_weight));
        block.bn_bias.add_(torch::randn_like(block.bn_bias));
      }
      const auto x = torch::randn({9, channels, 14, 11}) + 0.5;
      for (const bool training : {true, false}) {
        net->train(training);
        const auto all = net->forward(x);
        ASSERT_EQ(all.sizes().vec(), (std::vector<int64_t>{3, 9, 4}));
        for (int64_t e = 0; e < 3; ++e) {
          EXPECT_TRUE(torch::allclose(all[e], plain_network(*net, e, x, training), 1e-3, 1e-4));
        }
        // Network 1 gets nothing.
        const auto routed = net->forward_routed(x, {0, 4, 4, 9});
        EXPECT_TRUE(
            torch::allclose(routed,
                            torch::cat({plain_network(*net, 0, x.slice(0, 0, 4), training),
                                        plain_network(*net, 2, x.slice(0, 4, 9), training)}),
                            1e-3, 1e-4));
      }
      EXPECT_EQ(net->forward_routed(x.slice(0, 0, 0), {0, 0, 0, 0}).sizes().vec(),
                (std::vector<int64_t>{0, 4}));
    }
  }
}

TEST(ExpertRules, BatchStatisticsRunAlong) {
  torch::manual_seed(7);
  for (const int64_t channels : {1, 2}) {
    ConvNetStack net(
        ConvNetOptions(channels, 9, 8).blocks({{3, 3, 0, true}}).hidden({4}).num_networks(2));
    const auto& block = net->blocks[0];
    EXPECT_TRUE(torch::equal(block.running_mean, torch::zeros({2, 3})));
    EXPECT_TRUE(torch::equal(block.running_var, torch::ones({2, 3})));
    EXPECT_TRUE(torch::equal(block.bn_weight, torch::ones({2, 3})));
    EXPECT_TRUE(torch::equal(block.bn_bias, torch::zeros({2, 3})));
    const auto x = torch::randn({5, channels, 9, 8}) * 2 + 1;
    net->forward(x);
    for (int64_t e = 0; e < 2; ++e) {
      const auto y = torch::conv2d(x, block.weight[e], block.bias[e]);
      const auto mean = y.mean(at::IntArrayRef{0, 2, 3});
      const auto var = y.var(at::IntArrayRef{0, 2, 3}, /*unbiased=*/true);
      EXPECT_TRUE(torch::allclose(block.running_mean[e], 0.1 * mean, 1e-3, 1e-4));
      EXPECT_TRUE(torch::allclose(block.running_var[e], 0.9 + 0.1 * var, 1e-3, 1e-4));
    }
    const auto kept = block.running_var.clone();
    net->eval();
    net->forward(x);
    EXPECT_TRUE(torch::equal(block.running_var, kept));
    net->reset_parameters(tensor::make_generator(1));
    EXPECT_TRUE(torch::equal(block.running_mean, torch::zeros({2, 3})));
    EXPECT_TRUE(torch::equal(block.running_var, torch::ones({2, 3})));
  }
}

TEST(ExpertRules, TrunksAreDrawnByTheGenerator) {
  ConvTrunk trunk(ConvNetOptions(1, 8, 8).hidden({4}), false);
  const auto x = experts_normal({3, 1, 8, 8}, 1);
  trunk->reset_parameters(tensor::make_generator(1));
  const auto first = trunk->forward(x).detach();
  EXPECT_EQ(first.sizes().vec(), (std::vector<int64_t>{3, 4}));
  trunk->reset_parameters(tensor::make_generator(2));
  EXPECT_FALSE(torch::equal(trunk->forward(x), first));
  trunk->reset_parameters(tensor::make_generator(1));
  EXPECT_TRUE(torch::equal(trunk->forward(x), first));
}

TEST(ExpertRules, ListsCopyAnExpertThatIsTakenTwiceAndTellWhatGoes) {
  std::vector<torch::nn::AnyModule> three;
  for (int e = 0; e < 3; ++e) three.emplace_back(torch::nn::Linear(3, 4));
  ExpertList list(three, 4);
  const auto x = experts_normal({5, 3}, 1);
  const auto before = list->forward_all(x).values.detach();
  EXPECT_EQ(list->separate_parameters().size(), 3U);
  EXPECT_TRUE(list->separate_parameters()[1][0].is_same(list->experts[1].ptr()->parameters()[0]));
  list->experts[2].ptr()->parameters()[1].requires_grad_(false);
  const auto gone = list->experts[1].ptr()->parameters();
  ExpertEdit edit(torch::tensor({2, 0, 2}));
  list->take_experts(edit);
  ASSERT_EQ(edit.removed.size(), 2U);
  EXPECT_TRUE(edit.removed[0].is_same(gone[0]));
  EXPECT_TRUE(edit.removed[1].is_same(gone[1]));
  ASSERT_EQ(edit.copies.size(), 2U);
  EXPECT_TRUE(torch::equal(list->forward_all(x).values, before));  // not yet
  edit.commit();
  const auto after = list->forward_all(x).values;
  EXPECT_TRUE(torch::equal(after, before.index_select(0, edit.index)));
  const auto original = list->experts[0].ptr()->parameters();
  const auto copy = list->experts[2].ptr()->parameters();
  EXPECT_FALSE(copy[0].is_same(original[0]));
  EXPECT_TRUE(copy[0].requires_grad());
  EXPECT_FALSE(copy[1].requires_grad());
  EXPECT_TRUE(edit.copies[0].first.is_same(copy[0]));
  EXPECT_TRUE(edit.copies[0].second.is_same(original[0]));
  EXPECT_EQ(list->named_children().keys(), (std::vector<std::string>{"0", "1", "2"}));
  const auto plan = make_plan(torch::tensor({{2}, {2}, {0}, {2}, {0}}), 3);
  EXPECT_TRUE(torch::allclose(list->forward_routed(dispatch(x, plan), plan),
                              torch::cat({after[0].index_select(0, torch::tensor({2, 4})),
                                          after[2].index_select(0, torch::tensor({0, 1, 3}))})));
}

TEST(ExpertRules, PackedExpertsGiveWhatTheyGaveBefore) {
  for (const bool gated : {false, true}) {
    MlpExperts experts(MlpExpertsOptions(6, 9, 3).output_size(5).activation(
        gated ? Activation::kSwiglu : Activation::kRelu));
    experts->reset_parameters(tensor::make_generator(2));
    const auto x = experts_normal({7, 6}, 1);
    const auto plan = make_plan(torch::tensor({{2}, {0}, {2}, {1}, {0}, {0}, {2}}), 3);
    const torch::NoGradGuard no_grad;
    const auto rows = dispatch(x, plan);
    const auto all = experts->forward_all(x).values;
    const auto routed = experts->forward_routed(rows, plan);
    const auto weight = torch::arange(1, 8, torch::kFloat32);
    const auto combined = combine(routed, plan, weight);
    experts->pack(kernels::WeightFormat::kF32);
    const auto packed = experts->forward_all(x);
    EXPECT_TRUE(torch::allclose(packed.values, all, 1e-4, 1e-5));
    EXPECT_FALSE(packed.features.defined());
    EXPECT_TRUE(torch::allclose(experts->forward_routed(rows, plan), routed, 1e-4, 1e-5));
    EXPECT_TRUE(torch::allclose(experts->forward_fused(x, plan, weight, Runtime::standard()),
                                combined, 1e-4, 1e-5));
    experts->unpack();
    EXPECT_TRUE(torch::equal(experts->forward_all(x).values, all));
    MlpExperts other(experts->options);
    other->pack(kernels::WeightFormat::kF32);
    other->set_networks({experts->gate_proj, experts->up_proj, experts->down_proj,
                         experts->gate_bias, experts->up_bias, experts->down_bias});
    EXPECT_EQ(other->packed(), nullptr);
    EXPECT_TRUE(torch::equal(other->forward_all(x).values, all));
    EXPECT_EQ(experts->feature_size(), 9);
  }
}

TEST(ExpertRules, RoundedExpertsGiveTheSameDenseAndRouted) {
  for (const auto levels : {WeightLevels::kTernary, WeightLevels::kBinary}) {
    MlpExperts experts(MlpExpertsOptions(6, 9, 3).output_size(5).weights(levels));
    experts->reset_parameters(tensor::make_generator(2));
    const auto x = experts_normal({7, 6}, 1);
    const auto out = experts->forward_all(x);
    ASSERT_EQ(out.values.sizes().vec(), (std::vector<int64_t>{3, 7, 5}));
    ASSERT_EQ(out.features.sizes().vec(), (std::vector<int64_t>{3, 7, 9}));
    for (int64_t e = 0; e < 3; ++e) {
      const auto plan = make_plan(torch::full({7, 1}, e, torch::kLong), 3);
      EXPECT_TRUE(torch::allclose(experts->forward_routed(x, plan), out.values[e], 1e-5, 1e-6));
    }
  }
}

TEST(ExpertRules, MatrixProductsHaveABiasAndAShareOfTheirOwn) {
  for (const auto activation : {Activation::kRelu, Activation::kSwiglu}) {
    MatrixProductOptions options;
    options.mlp = MlpExpertsOptions(16, 24, 3).activation(activation);
    MatrixProductExperts experts(options);
    experts->reset_parameters(tensor::make_generator(4));
    MlpExperts drawn(MlpExpertsOptions(options.mlp).num_experts(1));
    drawn->reset_parameters(tensor::make_generator(4));
    const auto networks = experts->networks();
    for (int64_t e = 0; e < 3; ++e) {
      EXPECT_TRUE(torch::allclose(networks.up[e], drawn->up_proj[0], 1e-4, 1e-5));
      EXPECT_TRUE(torch::allclose(networks.down[e], drawn->down_proj[0], 1e-4, 1e-5));
      EXPECT_TRUE(torch::equal(networks.up_bias[e], drawn->up_bias[0]));
      EXPECT_TRUE(torch::equal(networks.down_bias[e], drawn->down_bias[0]));
      if (!drawn->gate_proj.defined()) continue;
      EXPECT_TRUE(torch::allclose(networks.gate[e], drawn->gate_proj[0], 1e-4, 1e-5));
      EXPECT_TRUE(torch::equal(networks.gate_bias[e], drawn->gate_bias[0]));
    }
    EXPECT_EQ(networks.gate.defined(), is_gated(activation));
    EXPECT_EQ(networks.gate_bias.defined(), is_gated(activation));
    const auto x = experts_normal({5, 16}, 1);
    EXPECT_EQ(experts->forward_all(x).features.sizes().vec(), (std::vector<int64_t>{3, 5, 24}));
    {
      const torch::NoGradGuard no_grad;  // experts that differ
      for (auto& p : experts->parameters()) p.add_(torch::rand_like(p) * 0.1);
    }
    auto before = experts->networks();
    for (auto* bias : {&before.gate_bias, &before.up_bias, &before.down_bias}) {
      if (bias->defined()) *bias = bias->detach().clone();
    }
    ExpertEdit edit(torch::tensor({2, 0}));
    experts->take_experts(edit);
    edit.commit();
    EXPECT_EQ(experts->num_experts(), 2);
    const auto after = experts->networks();
    EXPECT_TRUE(torch::allclose(after.down, before.down.index_select(0, edit.index), 1e-4, 1e-6));
    EXPECT_TRUE(torch::equal(after.up_bias, before.up_bias.index_select(0, edit.index)));
    EXPECT_TRUE(torch::equal(after.down_bias, before.down_bias.index_select(0, edit.index)));
    if (after.gate.defined()) {
      EXPECT_TRUE(torch::allclose(after.gate, before.gate.index_select(0, edit.index), 1e-4, 1e-6));
      EXPECT_TRUE(torch::equal(after.gate_bias, before.gate_bias.index_select(0, edit.index)));
    }
  }
  MatrixProductOptions bare;
  bare.mlp = MlpExpertsOptions(16, 24, 3).bias(false);
  const auto networks = MatrixProductExperts(bare)->networks();
  EXPECT_FALSE(networks.up_bias.defined());
  EXPECT_FALSE(networks.down_bias.defined());
}

TEST(ExpertRules, AreMadeForTheirSite) {
  const auto expect = [](const std::shared_ptr<ExpertsImpl>& experts, at::IntArrayRef token,
                         int64_t num_experts, int64_t output_size) {
    std::vector<int64_t> sizes = token.vec();
    sizes.insert(sizes.begin(), 2);
    EXPECT_EQ(experts->forward_all(torch::zeros(sizes)).values.sizes().vec(),
              (std::vector<int64_t>{num_experts, 2, output_size}));
    EXPECT_EQ(experts->num_experts(), num_experts);
    EXPECT_EQ(experts->output_size(), output_size);
    EXPECT_EQ(experts->token_dim(), static_cast<int64_t>(token.size()));
  };
  const LayerSite vectors{{6}, 3, 5};
  const LayerSite images{{2, 9, 12}, 3, 5};
  expect(make_linear_experts({}, vectors), {6}, 3, 5);
  expect(make_linear_experts({}, images), {2, 9, 12}, 3, 5);
  EXPECT_EQ(make_linear_experts(LinearExpertsOptions().bias(false), vectors)->parameters().size(),
            1U);
  const auto mlp = make_mlp_experts(MlpExpertsOptions().intermediate_size(7), vectors);
  expect(mlp, {6}, 3, 5);
  EXPECT_EQ(mlp->feature_size(), 7);
  expect(make_mlp_experts(MlpExpertsOptions().intermediate_size(7), images), {2, 9, 12}, 3, 5);
  ConvExpertsConfig conv;
  conv.net = {{{2, 3, 0, false}}, {4}};
  expect(make_conv_experts(conv, images), {2, 9, 12}, 3, 5);
  expect(make_patch_experts(PatchExpertsOptions().num_filters(2), LayerSite{{1, 4, 6}, 3, 5}),
         {1, 4, 6}, 3, 5);
  MatrixProductOptions product;
  product.mlp.intermediate_size(24);
  expect(make_matrix_product_experts(product, LayerSite{{16}, 3, 16}), {16}, 3, 16);
}

TEST(ExpertRules, MatrixProductsKeepToTheirBond) {
  MatrixProductOptions options;
  options.mlp = MlpExpertsOptions(16, 24, 3).bias(false);
  options.max_bond(2);
  MatrixProductExperts experts(options);
  for (const auto& item : experts->named_parameters()) {
    EXPECT_LE(item.value().size(-1), 2) << item.key();
    EXPECT_LE(item.value().size(-4), 2) << item.key();
  }
  EXPECT_EQ(experts->networks().up.sizes().vec(), (std::vector<int64_t>{3, 24, 16}));
  std::vector<std::string> names;
  for (const auto& item : experts->named_parameters()) names.push_back(item.key());
  EXPECT_EQ(names, (std::vector<std::string>{"up_proj_0", "up_proj_1", "up_proj_shared",
                                             "up_proj_3", "up_proj_4", "down_proj_0", "down_proj_1",
                                             "down_proj_shared", "down_proj_3", "down_proj_4"}));
}

TEST(ExpertRules, ListsDrawTheExpertsThatCanBeDrawn) {
  ExpertList list(
      std::vector<torch::nn::AnyModule>{
          torch::nn::AnyModule(ConvTrunk(ConvNetOptions(1, 1, 4).hidden({3}), false)),
          torch::nn::AnyModule(ConvTrunk(ConvNetOptions(1, 1, 4).hidden({3}), false))},
      3);
  const auto x = experts_normal({5, 1, 1, 4}, 1);
  const auto drawn = [&](uint64_t seed) {
    list->reset_parameters(tensor::make_generator(seed));
    return list->forward_all(x).values.detach();
  };
  const auto first = drawn(1);
  EXPECT_FALSE(torch::equal(first[0], first[1]));
  EXPECT_FALSE(torch::equal(drawn(2)[1], first[1]));
  EXPECT_TRUE(torch::equal(drawn(1), first));
}

}  // namespace
}  // namespace moekit::nn
