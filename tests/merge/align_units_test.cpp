#include "moekit/merge/align_units.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/torch.h>

#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/flat_experts.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"
#include "moekit/tensor/generator.h"

namespace moekit::merge {
namespace {

/// Exchanges the units of every hidden layer of expert 1 at random.
void shuffle_units(const nn::ExpertsImpl& bank, const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  auto tensors = nn::expert_tensors(bank, 1);
  const auto layers = *bank.hidden_units();
  for (const auto& layer : layers) {
    const auto order = torch::randperm(layer.count, generator);
    for (const auto& axis : layer.axes) {
      for (auto& [name, tensor] : tensors) {
        if (name != axis.tensor) continue;
        auto part = tensor.narrow(axis.dim, axis.first, layer.count * axis.per_unit);
        const auto units = part.unflatten(axis.dim, {layer.count, axis.per_unit});
        part.copy_(units.index_select(axis.dim, order).flatten(axis.dim, axis.dim + 1).clone());
      }
    }
  }
}

void copy_expert(const nn::ExpertsImpl& bank, int64_t from, int64_t to) {
  const torch::NoGradGuard no_grad;
  const auto source = nn::expert_tensors(bank, from);
  auto target = nn::expert_tensors(bank, to);
  for (size_t t = 0; t < source.size(); ++t) target[t].second.copy_(source[t].second);
}

struct BankCase {
  const char* name;
  std::shared_ptr<nn::ExpertsImpl> bank;
  torch::Tensor tokens;
};

std::vector<BankCase> banks() {
  const auto images = torch::randn({5, 1, 14, 14});
  const auto vectors = torch::randn({5, 6});
  const auto mlp = [](nn::Activation activation, bool bias) {
    return std::make_shared<nn::MlpExpertsImpl>(
        nn::MlpExpertsOptions(6, 9, 3).activation(activation).bias(bias));
  };
  const auto conv = [](std::vector<nn::ConvBlock> blocks, std::vector<int64_t> hidden) {
    return std::make_shared<nn::ConvExpertsImpl>(
        nn::ConvExpertsOptions(nn::ConvNetOptions(1, 14, 14)
                                   .blocks(std::move(blocks))
                                   .hidden(std::move(hidden))
                                   .num_networks(3),
                               4));
  };
  return {
      {"relu", mlp(nn::Activation::kRelu, true), vectors},
      {"swiglu", mlp(nn::Activation::kSwiglu, true), vectors},
      {"geglu without bias", mlp(nn::Activation::kGeglu, false), vectors},
      {"flat",
       std::make_shared<nn::FlatExpertsImpl>(
           std::make_shared<nn::MlpExpertsImpl>(nn::MlpExpertsOptions(196, 7, 3).output_size(4))),
       images},
      {"conv", conv({{3, 3, 0, false}, {4, 3, 1, true}}, {6, 5}), images},
      {"one conv block", conv({{4, 3, 0, false}}, {5}), images},
      {"no conv block", conv({}, {5}), images},
      {"patch",
       std::make_shared<nn::PatchExpertsImpl>(
           nn::PatchExpertsOptions(7, 3, 3).num_filters(4).activation(nn::Activation::kCubic)),
       torch::randn({5, 1, 2, 7})},
  };
}

TEST(HiddenUnits, MayChangePlacesWithoutChangingWhatAnExpertComputes) {
  torch::manual_seed(3);
  const auto generator = tensor::make_generator(5);
  for (const auto& [name, bank, tokens] : banks()) {
    bank->eval();
    const auto before = bank->forward_all(tokens).values;
    const auto first = nn::expert_tensors(*bank, 1)[0].second.clone();
    shuffle_units(*bank, generator);
    EXPECT_FALSE(torch::equal(first, nn::expert_tensors(*bank, 1)[0].second)) << name;
    EXPECT_TRUE(torch::allclose(bank->forward_all(tokens).values, before, 1e-4, 1e-5)) << name;
  }
}

TEST(AlignUnits, BringsAShuffledCopyBackBitForBit) {
  torch::manual_seed(4);
  const auto generator = tensor::make_generator(6);
  for (const auto& [name, bank, tokens] : banks()) {
    copy_expert(*bank, 0, 1);
    shuffle_units(*bank, generator);
    const auto reference = nn::expert_tensors(*bank, 0);
    const auto aligned =
        align_units(*bank->hidden_units(), reference, nn::expert_tensors(*bank, 1));
    for (size_t t = 0; t < reference.size(); ++t) {
      EXPECT_TRUE(torch::equal(aligned[t].second, reference[t].second))
          << name << ": " << reference[t].first;
    }
  }
}

TEST(AlignUnits, KeepsWhatAnyOtherExpertComputes) {
  torch::manual_seed(5);
  for (const auto& [name, bank, tokens] : banks()) {
    bank->eval();
    const auto before = bank->forward_all(tokens).values[2];
    const auto aligned = align_units(*bank->hidden_units(), nn::expert_tensors(*bank, 0),
                                     nn::expert_tensors(*bank, 2));
    const torch::NoGradGuard no_grad;
    auto own = nn::expert_tensors(*bank, 2);
    for (size_t t = 0; t < own.size(); ++t) own[t].second.copy_(aligned[t].second);
    EXPECT_TRUE(torch::allclose(bank->forward_all(tokens).values[2], before, 1e-4, 1e-5)) << name;
  }
}

TEST(AlignUnits, NothingToAlignAndNothingKnown) {
  const nn::LinearExpertsImpl linear(nn::LinearExpertsOptions(4, 3, 2));
  ASSERT_TRUE(linear.hidden_units());
  const auto other = nn::expert_tensors(linear, 1);
  const auto same = align_units(*linear.hidden_units(), nn::expert_tensors(linear, 0), other);
  EXPECT_TRUE(torch::equal(same[0].second, other[0].second));
  const nn::ExpertListImpl list({torch::nn::AnyModule(torch::nn::Linear(4, 3)),
                                 torch::nn::AnyModule(torch::nn::Linear(4, 3))},
                                3);
  EXPECT_FALSE(list.hidden_units());
  EXPECT_EQ(nn::expert_tensors(list, 1)[0].first, "weight");
  EXPECT_THROW(nn::expert_tensors(list, 2), ArgumentError);
}

}  // namespace
}  // namespace moekit::merge
