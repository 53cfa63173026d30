#include "moekit/compress/merge_groups.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <numeric>

#include "moekit/compress/layer_error.h"
#include "moekit/compress/similarity.h"
#include "moekit/merge/align_units.h"
#include "moekit/merge/average.h"
#include "moekit/merge/merge_experts.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "tests/merge/expert_copies.h"
#include "tests/support/refusal.h"

namespace moekit::compress {
namespace {

constexpr int64_t kSize = 6;
constexpr int64_t kHidden = 8;

nn::MoE make_layer(int64_t experts, int64_t top_k) {
  torch::manual_seed(3);
  nn::MoE layer(
      std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(kSize, experts)
                                                 .top_k(top_k)
                                                 .combine_weights(nn::CombineWeights::kProbs)
                                                 .noise(nn::RouterNoise::kGaussian)),
      std::make_shared<nn::MlpExpertsImpl>(
          nn::MlpExpertsOptions(kSize, kHidden, experts).activation(nn::Activation::kSwiglu)));
  layer->eval();
  return layer;
}

nn::RoutedLayer layer_of(nn::MoE& layer) {
  auto out = nn::routed_layers(*layer)[0];
  out.name = "moe";  // which has none where it is the whole model
  return out;
}

LayerStatistics statistics_of(nn::MoE& layer, const std::vector<torch::Tensor>& batches) {
  Calibrator calibrator;
  for (const auto& tokens : batches) {
    const auto output = layer->forward_with_routing(tokens);
    calibrator.add({{"moe", output.routing, output.tokens, 0}}, {});
  }
  return calibrator.finish().at(0);
}

/// Writes expert `from` over `to`, its hidden units in another order.
void write_shuffled(nn::MoE& layer, int64_t from, int64_t to) {
  auto copy = merge::copy_of(layer_of(layer), from);
  const auto order = torch::randperm(kHidden);
  for (auto& [name, tensor] : copy) {
    for (int64_t d = 0; d < tensor.dim(); ++d) {
      if (tensor.size(d) == kHidden) tensor = tensor.index_select(d, order);
    }
  }
  merge::write_expert(layer_of(layer), to, copy);
}

TEST(Calibrator, CountsWhatTheLayerDecided) {
  auto layer = make_layer(4, 2);
  const std::vector<torch::Tensor> batches{torch::randn({50, kSize}), torch::randn({30, kSize})};
  const auto statistics = statistics_of(layer, batches);
  const auto all = layer->forward_with_routing(torch::cat(batches)).routing;
  ASSERT_EQ(statistics.num_experts(), 4);
  double hard = 0;
  for (int64_t e = 0; e < 4; ++e) {
    const auto own = all.expert.eq(e);
    EXPECT_EQ(statistics.hard[static_cast<size_t>(e)], own.sum().item<double>());
    EXPECT_NEAR(statistics.soft[static_cast<size_t>(e)],
                all.weight.masked_select(own).sum().item<double>(), 1e-4);
    hard += statistics.hard[static_cast<size_t>(e)];
  }
  EXPECT_EQ(hard, 160);  // two experts a token
  EXPECT_TRUE(torch::allclose(statistics.logits, all.logits.to(torch::kFloat64), 1e-5, 1e-6));
  EXPECT_EQ(statistics.passes.size(), 2U);
}

TEST(Calibrator, CountsFirstChoicesWhereEveryInputGoesToAll) {
  auto layer = make_layer(4, 0);
  const auto tokens = torch::randn({60, kSize});
  const auto statistics = statistics_of(layer, {tokens});
  const auto first = layer->forward_with_routing(tokens).routing.probs.argmax(1);
  double all = 0;
  for (int64_t e = 0; e < 4; ++e) {
    EXPECT_EQ(statistics.hard[static_cast<size_t>(e)], first.eq(e).sum().item<double>());
    all += statistics.hard[static_cast<size_t>(e)];
  }
  EXPECT_EQ(all, 60);
}

TEST(Calibrator, RefusesAPassOfAnotherModel) {
  auto layer = make_layer(4, 2);
  auto other = make_layer(3, 2);
  Calibrator calibrator;
  const auto pass = [&](nn::MoE& of, const std::string& name) {
    const auto output = of->forward_with_routing(torch::randn({5, kSize}));
    return nn::LayerRouting{name, output.routing, output.tokens, 0};
  };
  const auto add = [&](const std::vector<nn::LayerRouting>& layers) {
    return refusal([&] { calibrator.add(layers, {}); });
  };
  EXPECT_EQ(add({pass(layer, "moe")}), "nothing was thrown");
  EXPECT_EQ(add({pass(other, "moe")}),
            "calibration: layer \"moe\" of 3 experts where there was \"moe\" of 4");
  EXPECT_EQ(add({pass(layer, "other")}),
            "calibration: layer \"other\" of 4 experts where there was \"moe\" of 4");
  EXPECT_EQ(add({pass(layer, "moe"), pass(layer, "next")}),
            "calibration: a pass gave 2 routed layers, those before 1");
  EXPECT_EQ(add({}), "calibration: a pass gave 0 routed layers, those before 1");
}

TEST(Calibrator, CountsLayerByLayer) {
  auto first = make_layer(4, 2);
  auto second = make_layer(3, 1);
  Calibrator calibrator;
  for (const int64_t count : {7, 5}) {
    const auto a = first->forward_with_routing(torch::randn({count, kSize}));
    const auto b = second->forward_with_routing(torch::randn({count, kSize}));
    calibrator.add({{"a", a.routing, a.tokens, 0}, {"b", b.routing, b.tokens, 0}}, {});
  }
  const auto found = calibrator.finish();
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].name, "a");
  EXPECT_EQ(found[1].name, "b");
  EXPECT_EQ(found[0].num_experts(), 4);
  EXPECT_EQ(found[1].num_experts(), 3);
  const auto sum = [](const std::vector<double>& x) {
    return std::accumulate(x.begin(), x.end(), 0.0);
  };
  EXPECT_EQ(sum(found[0].hard), 24);
  EXPECT_EQ(sum(found[1].hard), 12);
  EXPECT_EQ(found[1].logits.sizes(), (std::vector<int64_t>{12, 3}));
  EXPECT_EQ(found[1].passes[1].inputs.size(0), 5);
}

TEST(Calibrator, TakesTheLogitsWithoutNoiseAndNoGradient) {
  auto layer = make_layer(4, 2);
  layer->train();
  const auto tokens = torch::randn({20, kSize}).requires_grad_();
  nn::RouterContext context;
  context.training = true;
  context.generator = at::detail::createCPUGenerator(1);
  const auto output = layer->forward_with_routing(tokens, context);
  ASSERT_TRUE(output.routing.clean_logits.defined());
  ASSERT_FALSE(torch::allclose(output.routing.clean_logits, output.routing.logits));
  Calibrator calibrator;
  calibrator.add({{"moe", output.routing, output.tokens, 0}}, context);
  const auto found = calibrator.finish().at(0);
  EXPECT_TRUE(torch::equal(found.logits, output.routing.clean_logits.to(torch::kFloat64)));
  EXPECT_FALSE(found.logits.requires_grad());
  EXPECT_FALSE(found.passes[0].inputs.requires_grad());
}

TEST(Calibrator, OfMaskedTokensThoseThatAreThere) {
  auto layer = make_layer(4, 2);
  const auto tokens = torch::randn({6, kSize});
  nn::RouterContext context;
  context.mask = torch::tensor({true, false, true, true, false, true});
  context.token_id = torch::arange(6);
  const auto output = layer->forward_with_routing(tokens, context);
  Calibrator calibrator;
  calibrator.add({{"moe", output.routing, output.tokens, 0}}, context);
  const auto found = calibrator.finish().at(0);
  ASSERT_EQ(found.passes[0].inputs.size(0), 4);
  EXPECT_TRUE(torch::equal(found.passes[0].context.token_id, torch::tensor({0, 2, 3, 5})));
  EXPECT_FALSE(found.passes[0].context.mask.defined());
  const auto outputs = layer_outputs(layer_of(layer), found);
  EXPECT_TRUE(torch::allclose(
      outputs, output.values.detach().index_select(0, torch::tensor({0, 2, 3, 5})), 1e-5, 1e-6));
  EXPECT_FALSE(outputs.requires_grad());
}

TEST(Calibrator, CountsFirstChoicesWhereATokenHasAsManyExpertsAsThereAre) {
  auto layer = make_layer(3, 3);
  const auto tokens = torch::randn({40, kSize});
  const auto found = statistics_of(layer, {tokens});
  const auto first = layer->forward_with_routing(tokens).routing.logits.argmax(1);
  for (int64_t e = 0; e < 3; ++e) {
    EXPECT_EQ(found.hard[static_cast<size_t>(e)], first.eq(e).sum().item<double>());
  }
  EXPECT_NEAR(std::accumulate(found.soft.begin(), found.soft.end(), 0.0), 40, 1e-4);
}

TEST(ExpertSimilarity, FindsPlantedCopies) {
  auto layer = make_layer(4, 2);
  write_shuffled(layer, 0, 2);  // the same function, other weights
  const auto statistics = statistics_of(layer, {torch::randn({200, kSize})});
  const auto at = [&](Similarity method, bool align) {
    return expert_similarity(method, layer_of(layer), statistics, align);
  };
  const auto plain = at(Similarity::kWeights, false);
  EXPECT_LT(plain[0][2].item<double>(), 0.9);
  const auto aligned = at(Similarity::kWeights, true);
  EXPECT_NEAR(aligned[0][2].item<double>(), 1, 1e-6);
  EXPECT_NEAR(aligned[2][0].item<double>(), 1, 1e-6);
  EXPECT_LT(aligned[0][1].item<double>(), 0.9);
  const auto outputs = at(Similarity::kOutputCka, false);
  EXPECT_NEAR(outputs[0][2].item<double>(), 1, 1e-4);
  EXPECT_LT(outputs[0][1].item<double>(), 0.9);
}

TEST(ExpertSimilarity, AlignsEveryPair) {
  auto layer = make_layer(5, 2);
  write_shuffled(layer, 1, 3);
  write_shuffled(layer, 2, 4);
  const auto statistics = statistics_of(layer, {torch::randn({5, kSize})});
  const auto aligned =
      expert_similarity(Similarity::kWeights, layer_of(layer), statistics, /*align=*/true);
  for (const auto& [i, j] : {std::pair{1, 3}, std::pair{3, 1}, std::pair{2, 4}, std::pair{4, 2}}) {
    EXPECT_NEAR(aligned[i][j].item<double>(), 1, 1e-6) << i << ", " << j;
  }
  const auto own = [&](int64_t e) { return nn::expert_tensors(*layer_of(layer).experts, e); };
  const auto units = *layer_of(layer).experts->hidden_units();
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(aligned[i][i].item<double>(), 1, 1e-12);
    for (int64_t j = i + 1; j < 5; ++j) {
      const auto strung = [](const nn::ExpertTensors& tensors) {
        std::vector<torch::Tensor> parts;
        for (const auto& [name, tensor] : tensors) parts.push_back(tensor.detach().flatten());
        return torch::cat(parts).to(torch::kFloat64);
      };
      const auto a = strung(own(i));
      const auto b = strung(merge::align_units(units, own(i), own(j)));
      EXPECT_NEAR(aligned[i][j].item<double>(), (a.dot(b) / (a.norm() * b.norm())).item<double>(),
                  1e-9);
      EXPECT_EQ(aligned[i][j].item<double>(), aligned[j][i].item<double>());
    }
  }
}

TEST(ExpertSimilarity, RefusesExpertsOfOtherSizes) {
  const auto expert = [](bool bias) {
    return torch::nn::AnyModule(
        torch::nn::Linear(torch::nn::LinearOptions(kSize, kSize).bias(bias)));
  };
  nn::RoutedLayer layer;
  layer.name = "moe";
  layer.experts = std::make_shared<nn::ExpertListImpl>(
      std::vector<torch::nn::AnyModule>{expert(true), expert(true), expert(false)}, kSize);
  try {
    LayerStatistics statistics;
    statistics.hard = {0, 0, 0};
    expert_similarity(Similarity::kWeights, layer, statistics, false);
    ADD_FAILURE() << "compared experts of other sizes";
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "layer \"moe\": expert 2 has 36 weights, expert 0 42");
  }
}

TEST(ExpertSimilarity, RefusesAnotherLayersCalibrationAndUnitsThatCannotBeFound) {
  auto layer = make_layer(3, 1);
  LayerStatistics statistics;
  const auto refused = [&](size_t experts) {
    statistics.hard.assign(experts, 0);
    return refusal(
        [&] { expert_similarity(Similarity::kWeights, layer_of(layer), statistics, false); });
  };
  EXPECT_EQ(refused(3), "nothing was thrown");
  EXPECT_EQ(refused(2), "layer \"moe\" has 3 experts, its calibration 2");
  EXPECT_EQ(refused(4), "layer \"moe\" has 3 experts, its calibration 4");
  nn::RoutedLayer lists;
  lists.name = "lists";
  lists.experts = std::make_shared<nn::ExpertListImpl>(
      std::vector<torch::nn::AnyModule>{torch::nn::AnyModule(torch::nn::Linear(kSize, kSize)),
                                        torch::nn::AnyModule(torch::nn::Linear(kSize, kSize))},
      kSize);
  statistics.hard = {0, 0};
  EXPECT_EQ(refusal([&] { expert_similarity(Similarity::kWeights, lists, statistics, true); }),
            "layer \"lists\": the experts cannot tell their hidden units, so that they cannot be "
            "aligned");
  const auto plain = expert_similarity(Similarity::kWeights, lists, statistics, false);
  EXPECT_FALSE(plain.requires_grad());
  const auto flat = [&](int64_t e) {
    std::vector<torch::Tensor> parts;
    for (const auto& [name, tensor] : nn::expert_tensors(*lists.experts, e)) {
      parts.push_back(tensor.detach().flatten().to(torch::kFloat64));
    }
    return torch::cat(parts);
  };
  EXPECT_NEAR(plain[0][1].item<double>(),
              (flat(0).dot(flat(1)) / (flat(0).norm() * flat(1).norm())).item<double>(), 1e-12);
}

TEST(ExpertSimilarity, OfOutputsIsOverAllPasses) {
  auto layer = make_layer(3, 1);
  const std::vector<torch::Tensor> batches{torch::randn({30, kSize}), torch::randn({20, kSize})};
  const auto found = expert_similarity(Similarity::kOutputCka, layer_of(layer),
                                       statistics_of(layer, batches), false);
  const auto at_once = expert_similarity(Similarity::kOutputCka, layer_of(layer),
                                         statistics_of(layer, {torch::cat(batches)}), false);
  EXPECT_TRUE(torch::allclose(found, at_once, 1e-5, 1e-6));
  EXPECT_FALSE(found.requires_grad());
}

TEST(ExpertSimilarity, OfTheRouterIsTheCosineOfItsLogits) {
  auto layer = make_layer(3, 2);
  const auto rows = layer_of(layer).router->expert_rows();
  {
    const torch::NoGradGuard no_grad;
    for (const auto& row : rows) row.detach()[2].copy_(row.detach()[0]);
  }
  const auto statistics = statistics_of(layer, {torch::randn({40, kSize})});
  const auto cosine = expert_similarity(Similarity::kRouter, layer_of(layer), statistics, false);
  EXPECT_NEAR(cosine[0][2].item<double>(), 1, 1e-12);
  const auto a = statistics.logits.select(1, 0);
  const auto b = statistics.logits.select(1, 1);
  EXPECT_NEAR(cosine[0][1].item<double>(), (a.dot(b) / (a.norm() * b.norm())).item<double>(),
              1e-12);
}

TEST(PlanGroups, TakesTheMostUsedAndWeighsByUse) {
  LayerStatistics statistics;
  statistics.hard = {1, 3, 3, 0, 0};
  statistics.soft = {3, 1, -2, 0, 0};
  const auto by_use = plan_groups({{0, 1, 2}, {3, 4}}, statistics, MergeWeights::kUsage);
  EXPECT_EQ(by_use[0].experts, (std::vector<int64_t>{1, 0, 2}));
  EXPECT_EQ(by_use[0].weights, (std::vector<double>{3. / 7, 1. / 7, 3. / 7}));
  EXPECT_EQ(by_use[1].experts, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(by_use[1].weights, (std::vector<double>{0.5, 0.5}));  // none of them was used
  const auto soft = plan_groups({{0, 1, 2}}, statistics, MergeWeights::kSoftUsage);
  EXPECT_EQ(soft[0].weights, (std::vector<double>{0.25, 0.75, 0}));
  const auto uniform = plan_groups({{0, 1}}, statistics, MergeWeights::kUniform);
  EXPECT_EQ(uniform[0].weights, (std::vector<double>{0.5, 0.5}));
}

TEST(MergeGroups, MakesOneOfEachGroupAndLeavesSingleExpertsAlone) {
  auto layer = make_layer(5, 2);
  const auto parts = layer_of(layer);
  std::vector<nn::ExpertTensors> before;
  for (int64_t e = 0; e < 5; ++e) before.push_back(merge::copy_of(parts, e));
  std::vector<torch::Tensor> rows;
  for (const auto& row : parts.router->expert_rows()) rows.push_back(row.detach().clone());
  merge_groups(parts, {{{3, 0}, {0.75, 0.25}}, {{1}, {1}}, {{4, 2}, {0.5, 0.5}}}, false,
               RouterRepair::kMean);
  EXPECT_EQ(parts.experts->num_experts(), 3);
  EXPECT_EQ(parts.module->kept_experts(), (std::vector<int64_t>{3, 1, 4}));
  EXPECT_TRUE(
      merge::equal(merge::copy_of(parts, 0), merge::average({before[3], before[0]}, {0.75, 0.25})));
  EXPECT_TRUE(merge::equal(merge::copy_of(parts, 1), before[1]));
  EXPECT_TRUE(
      merge::equal(merge::copy_of(parts, 2), merge::average({before[4], before[2]}, {1, 1})));
  const auto after = parts.router->expert_rows();
  ASSERT_EQ(after.size(), rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    EXPECT_TRUE(
        torch::allclose(after[r].detach()[0], rows[r][3] * 0.75 + rows[r][0] * 0.25, 1e-6, 1e-7));
    EXPECT_TRUE(torch::equal(after[r].detach()[1], rows[r][1]));
  }
}

TEST(MergeGroups, OfCopiesKeepsWhatTheLayerGivesWhereOneWasUsed) {
  // Expert 2 computes what expert 0 does, and the router never takes it: without it, and merged
  // after alignment, the layer gives the same.
  auto layer = make_layer(3, 1);
  write_shuffled(layer, 0, 2);
  {
    const torch::NoGradGuard no_grad;
    for (const auto& row : layer_of(layer).router->expert_rows()) {
      if (row.dim() == 1) row.detach()[2] -= 100;  // the bias
    }
  }
  const auto statistics = statistics_of(layer, {torch::randn({64, kSize})});
  ASSERT_EQ(statistics.hard[2], 0);
  const auto before = layer_outputs(layer_of(layer), statistics);
  merge_groups(layer_of(layer), {{{0, 2}, {0.5, 0.5}}, {{1}, {1}}}, /*align=*/true,
               RouterRepair::kRepresentative);
  const auto after = layer_outputs(layer_of(layer), statistics);
  EXPECT_LT(relative_error(before, after), 1e-6);
}

TEST(MergeGroups, RefusesAndChangesNothing) {
  auto layer = make_layer(4, 2);
  const auto parts = layer_of(layer);
  const auto before = merge::copy_of(parts, 0);
  EXPECT_EQ(refusal([&] {
              merge_groups(parts, {{{0, 1, 2, 3}, {0.25, 0.25, 0.25, 0.25}}}, false,
                           RouterRepair::kRepresentative);
            }),
            "layer \"moe\": 1 experts would be left, and each token has 2");
  EXPECT_EQ(refusal([&] { merge_groups(parts, {}, false, RouterRepair::kRepresentative); }),
            "layer \"moe\": 0 experts would be left, and each token has 2");
  EXPECT_THROW(merge_groups(parts, {{{0, 1}, {1, 1}}, {{2, 9}, {1, 1}}}, false,
                            RouterRepair::kRepresentative),
               ArgumentError);
  EXPECT_EQ(parts.experts->num_experts(), 4);
  EXPECT_TRUE(merge::equal(merge::copy_of(parts, 0), before));
  // As few as a token has.
  merge_groups(parts, {{{0, 1}, {0.5, 0.5}}, {{2, 3}, {0.5, 0.5}}}, false,
               RouterRepair::kRepresentative);
  EXPECT_EQ(parts.experts->num_experts(), 2);
}

TEST(MergeGroups, TheRepresentativesRowsStayUnlessTheirMeanIsAskedFor) {
  auto layer = make_layer(4, 1);
  const auto parts = layer_of(layer);
  std::vector<torch::Tensor> rows;
  for (const auto& row : parts.router->expert_rows()) rows.push_back(row.detach().clone());
  merge_groups(parts, {{{3, 1}, {0.5, 0.5}}, {{2}, {1}}, {{0}, {1}}}, false,
               RouterRepair::kRepresentative);
  const auto after = parts.router->expert_rows();
  for (size_t r = 0; r < rows.size(); ++r) {
    EXPECT_TRUE(torch::equal(after[r].detach()[0], rows[r][3]));
    EXPECT_TRUE(torch::equal(after[r].detach()[1], rows[r][2]));
    EXPECT_TRUE(torch::equal(after[r].detach()[2], rows[r][0]));
  }
}

TEST(MergeGroups, AlignsWhereAsked) {
  // A shuffled copy: after alignment its mean with the original is the original.
  auto layer = make_layer(3, 1);
  write_shuffled(layer, 0, 2);
  const auto original = merge::copy_of(layer_of(layer), 0);
  auto plain = nn::MoE(std::dynamic_pointer_cast<nn::MoEImpl>(layer->clone()));
  const std::vector<GroupPlan> plan{{{0, 2}, {0.5, 0.5}}, {{1}, {1}}};
  merge_groups(layer_of(layer), plan, /*align=*/true, RouterRepair::kRepresentative);
  EXPECT_TRUE(merge::equal(merge::copy_of(layer_of(layer), 0), original));
  merge_groups(layer_of(plain), plan, /*align=*/false, RouterRepair::kRepresentative);
  EXPECT_FALSE(merge::equal(merge::copy_of(layer_of(plain), 0), original));
}

TEST(LayerOutputs, OfNoPassAreNone) {
  auto layer = make_layer(3, 1);
  EXPECT_FALSE(layer_outputs(layer_of(layer), {}).defined());
  const std::vector<torch::Tensor> batches{torch::randn({3, kSize}), torch::randn({4, kSize})};
  const auto outputs = layer_outputs(layer_of(layer), statistics_of(layer, batches));
  EXPECT_TRUE(torch::allclose(outputs, layer->forward(torch::cat(batches)).detach(), 1e-5, 1e-6));
}

TEST(RelativeError, IsOfAllInputsTogether) {
  const auto before = torch::tensor({{3.0, 0.0}, {0.0, 4.0}});
  EXPECT_NEAR(relative_error(before, before + 0.5), 1 / 5., 1e-12);
  EXPECT_EQ(relative_error(before, before), 0);
  EXPECT_TRUE(std::isnan(relative_error(torch::zeros({2, 2}), before)));
  EXPECT_EQ(refusal([&] {
              relative_error(before, torch::zeros({2, 3}));
            }),
            "relative_error: outputs [2, 2] and [2, 3]");
}

}  // namespace
}  // namespace moekit::compress
