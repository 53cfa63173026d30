#include "moekit/nn/merged_linear.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/nn/losses/importance_loss.h"
#include "moekit/nn/losses/load_loss.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/surgery.h"

namespace moekit::nn {
namespace {

constexpr int64_t kBank = 16, kInputs = 12, kOutputs = 9, kSequences = 5, kPositions = 7;

struct LayerCase {
  int64_t top_k = 4;
  bool bias = true;
  MergedLinearOptions options = {};
  int64_t router_size = kInputs;
  bool noise = false;
};

MergedLinear make_merged(const LayerCase& c = {}) {
  torch::manual_seed(11);
  auto router = LinearRouterOptions(c.router_size, kBank).top_k(c.top_k).aux_only(c.top_k == 1);
  if (c.noise) router.noise(RouterNoise::kGaussian);
  return MergedLinear(std::make_shared<LinearRouterImpl>(router),
                      std::make_shared<LinearExpertsImpl>(
                          LinearExpertsOptions(kInputs, kOutputs, kBank).bias(c.bias)),
                      c.options);
}

/// Values, and gradients of everything that learns and of the tokens.
std::vector<torch::Tensor> values_and_gradients(MergedLinear& layer, LinearPath path,
                                                const torch::Tensor& tokens,
                                                const RouterContext& context,
                                                const torch::Tensor& task = {}) {
  layer->options.path(path);
  layer->zero_grad();
  const auto x = tokens.detach().clone().requires_grad_();
  const auto output = layer->forward_with_routing(x, context, task);
  EXPECT_EQ(output.path, path);
  // A loss with another gradient at each output.
  const auto weight = torch::linspace(-1, 1, output.values.numel(), output.values.options())
                          .view(output.values.sizes());
  (output.values * weight).sum().backward();
  std::vector<torch::Tensor> all{output.values.detach(), x.grad()};
  for (const auto& parameter : layer->parameters()) {
    all.push_back(parameter.grad().defined() ? parameter.grad().clone()
                                             : torch::zeros_like(parameter));
  }
  return all;
}

void expect_same(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b,
                 double tolerance, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    const double scale = std::max(1e-30, b[i].abs().max().item<double>());
    EXPECT_LE((a[i] - b[i]).abs().max().item<double>(), tolerance * scale) << what << ", " << i;
  }
}

torch::Tensor ragged_mask() {
  auto mask = torch::ones({kSequences, kPositions}, torch::kBool);
  mask[1].slice(0, 3).fill_(false);
  mask[3].fill_(false);  // a sequence without a token
  mask[4][0] = false;
  return mask;
}

TEST(MergedLinear, GivesTheSameNumbersAndGradientsOnBothPaths) {
  for (const auto type : {torch::kFloat32, torch::kFloat64}) {
    const double tolerance = type == torch::kFloat32 ? 1e-4 : 1e-10;
    for (const auto unit :
         {GateUnit::kToken, GateUnit::kSequence, GateUnit::kPrefix, GateUnit::kTask}) {
      for (const int64_t k : {1, 4, 8, 16}) {
        for (const bool bias : {false, true}) {
          for (const bool masked : {false, true}) {
            for (const int64_t reduction : {0, 3}) {
              LayerCase c{k, bias};
              c.options.unit(unit).token_reduction(reduction);
              if (unit == GateUnit::kTask) c.options.num_tasks(3).task_size(kInputs);
              auto layer = make_merged(c);
              layer->to(type);
              if (reduction > 0) {
                const torch::NoGradGuard no_grad;
                layer->token_block->up.normal_();  // zero at first: the block would do nothing
              }
              const auto x = torch::randn({kSequences, kPositions, kInputs}, type);
              RouterContext context;
              if (masked) context.mask = ragged_mask();
              if (unit == GateUnit::kTask) {
                context.task_id = torch::randint(3, {kSequences, kPositions}, torch::kLong);
              }
              expect_same(values_and_gradients(layer, LinearPath::kMerged, x, context),
                          values_and_gradients(layer, LinearPath::kRouted, x, context), tolerance,
                          concat(enum_name(unit), " k ", k, " bias ", bias, " mask ", masked));
            }
          }
        }
      }
    }
  }
}

TEST(MergedLinear, EqualsAPlainLoopOverSequencesAndExperts) {
  auto layer = make_merged();
  const auto x = torch::randn({kSequences, kPositions, kInputs});
  const auto& experts = *layer->experts;
  const auto logits =
      torch::linear(x.mean(1), layer->router->parameters()[0], layer->router->parameters()[1]);
  const auto [top, index] = logits.topk(4, 1);
  const auto gate = torch::softmax(top, 1);
  auto want = torch::zeros({kSequences, kPositions, kOutputs});
  for (int64_t b = 0; b < kSequences; ++b) {
    for (int64_t t = 0; t < kPositions; ++t) {
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t e = index[b][i].item<int64_t>();
        want[b][t] += gate[b][i] * (experts.weight[e].mv(x[b][t]) + experts.bias[e]);
      }
    }
  }
  for (const auto path : {LinearPath::kRouted, LinearPath::kMerged, LinearPath::kAuto}) {
    layer->options.path(path);
    EXPECT_TRUE(torch::allclose(layer->forward(x), want, 1e-5, 1e-5)) << enum_name(path);
  }
}

TEST(MergedLinear, MergesTheSameByGatheringAndByTheWholeStack) {
  auto layer = make_merged();
  const auto routing = layer->router->forward(torch::randn({6, kInputs}), {});
  const auto a = merge_linear(*layer->experts, routing, MergeBy::kGather);
  const auto b = merge_linear(*layer->experts, routing, MergeBy::kProduct);
  EXPECT_TRUE(torch::allclose(a.weight, b.weight, 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(a.bias, b.bias, 1e-5, 1e-6));
  (a.weight.square().sum() + a.bias.sum()).backward();
  const auto of_weight = layer->experts->weight.grad().clone();
  const auto of_router = layer->router->parameters()[0].grad().clone();
  layer->zero_grad();
  const auto again = layer->router->forward(torch::zeros({0, kInputs}), {});
  EXPECT_EQ(merge_linear(*layer->experts, again, MergeBy::kGather).weight.size(0), 0);
  EXPECT_GT(of_weight.abs().sum().item<double>(), 0);
  EXPECT_GT(of_router.abs().sum().item<double>(), 0);
}

TEST(MergedLinear, GivesExpertsThatNoGateChoseGradientsOfExactZero) {
  LayerCase c{2};
  auto layer = make_merged(c);
  layer->options.path(LinearPath::kMerged);
  const auto output = layer->forward_with_routing(torch::randn({2, kPositions, kInputs}));
  output.values.sum().backward();
  for (int64_t e = 0; e < kBank; ++e) {
    const bool chosen = output.routing.expert.eq(e).any().item<bool>();
    EXPECT_EQ(layer->experts->weight.grad()[e].abs().sum().item<double>() > 0, chosen) << e;
  }
}

TEST(MergedLinear, LeavesMaskedTokensOutOfTheMean) {
  auto layer = make_merged();
  auto x = torch::randn({1, kPositions, kInputs});
  RouterContext context;
  context.mask = torch::ones({1, kPositions}, torch::kBool);
  context.mask[0].slice(0, 3).fill_(false);
  x[0].slice(0, 3).fill_(std::numeric_limits<float>::quiet_NaN());
  const auto output = layer->forward_with_routing(x, context);
  const auto alone = layer->forward_with_routing(x.slice(1, 0, 3));
  EXPECT_TRUE(torch::allclose(output.values.slice(1, 0, 3), alone.values, 1e-5, 1e-6));
  EXPECT_EQ(output.values.slice(1, 3).abs().sum().item<double>(), 0);

  x[0].slice(0, 3).fill_(7);
  layer->options.mean_over_padding(true);
  const auto padded = layer->forward_with_routing(x, context);
  EXPECT_TRUE(torch::allclose(padded.units[0], x[0].mean(0), 1e-5, 1e-6));
}

TEST(MergedLinear, TakesNoGradientFromMaskedTokens) {
  for (const auto unit : {GateUnit::kSequence, GateUnit::kPrefix}) {
    LayerCase c;
    c.options.unit(unit).token_reduction(3);
    auto layer = make_merged(c);
    auto x = torch::randn({kSequences, kPositions, kInputs});
    RouterContext context;
    context.mask = ragged_mask();
    x.masked_fill_(context.mask.logical_not().unsqueeze(2),
                   std::numeric_limits<float>::quiet_NaN());
    for (const auto path : {LinearPath::kRouted, LinearPath::kMerged}) {
      for (const auto& tensor : values_and_gradients(layer, path, x, context)) {
        EXPECT_TRUE(torch::isfinite(tensor).all().item<bool>()) << enum_name(path);
      }
    }
  }
}

TEST(MergedLinear, SeesNoLaterTokenWithAPrefixGate) {
  LayerCase c;
  c.options.unit(GateUnit::kPrefix);
  auto layer = make_merged(c);
  auto x = torch::randn({2, kPositions, kInputs});
  for (const auto path : {LinearPath::kRouted, LinearPath::kMerged}) {
    layer->options.path(path);
    const auto before = layer->forward_with_routing(x);
    EXPECT_TRUE(torch::allclose(before.units.view({2, kPositions, kInputs})[1][3],
                                x[1].slice(0, 0, 4).mean(0), 1e-5, 1e-6));
    auto changed = x.clone();
    changed.slice(1, 4).fill_(9);
    const auto after = layer->forward(changed);
    EXPECT_TRUE(torch::allclose(before.values.slice(1, 0, 4), after.slice(1, 0, 4), 1e-5, 1e-6));
    EXPECT_FALSE(torch::allclose(before.values.slice(1, 4), after.slice(1, 4), 1e-3, 1e-3));
  }
}

TEST(MergedLinear, TakesOneGateForAllFromATaskVector) {
  LayerCase c;
  c.options.unit(GateUnit::kTask);
  c.router_size = 5;
  auto layer = make_merged(c);
  const auto task = torch::randn({5});
  const auto x = torch::randn({kSequences, kPositions, kInputs});
  expect_same(values_and_gradients(layer, LinearPath::kMerged, x, {}, task),
              values_and_gradients(layer, LinearPath::kRouted, x, {}, task), 1e-4, "task");
  const auto output = layer->forward_with_routing(x, {}, task);
  EXPECT_EQ(output.routing.num_tokens(), 1);
  const auto merged = merge_linear(*layer->experts, output.routing, MergeBy::kProduct);
  EXPECT_TRUE(torch::allclose(output.values, torch::linear(x, merged.weight[0], merged.bias[0]),
                              1e-5, 1e-5));
}

TEST(MergedLinear, KeepsMergedWeightsUntilSomethingChanges) {
  for (const bool of_task : {false, true}) {
    LayerCase c;
    if (of_task) c.options.unit(GateUnit::kTask);
    auto layer = make_merged(c);
    layer->options.path(LinearPath::kMerged);
    layer->eval();
    const torch::NoGradGuard no_grad;
    const auto x = torch::randn({1, kPositions, kInputs});
    const auto task = of_task ? torch::randn({kInputs}) : torch::Tensor();
    const auto run = [&] { return layer->forward_with_routing(x, {}, task); };
    const auto fresh = [&] {
      layer->options.path(LinearPath::kRouted);
      const auto values = layer->forward_with_routing(x, {}, task).values;
      layer->options.path(LinearPath::kMerged);
      return values;
    };
    EXPECT_FALSE(run().cached);
    EXPECT_TRUE(run().cached);
    const auto expect_renewed = [&](const char* what) {
      const auto now = run();
      EXPECT_FALSE(now.cached) << what;
      EXPECT_TRUE(torch::allclose(now.values, fresh(), 1e-5, 1e-5)) << what;
      EXPECT_TRUE(run().cached) << what;
    };
    layer->experts->weight[0].add_(1);
    expect_renewed("a weight in place");
    layer->experts->bias.mul_(2);
    expect_renewed("a bias");
    layer->experts->weight.set_data(torch::randn_like(layer->experts->weight));
    expect_renewed("other memory");
    layer->router->parameters()[0].mul_(-1);
    expect_renewed("the router");
    layer->forget_merged();
    expect_renewed("forgotten");
    take_experts(*layer, {0, 1, 2, 3, 4, 5});
    expect_renewed("fewer experts");
    auto copy = MergedLinear(std::dynamic_pointer_cast<MergedLinearImpl>(layer->clone()));
    copy->eval();
    EXPECT_FALSE(copy->forward_with_routing(x, {}, task).cached);
  }
}

TEST(MergedLinear, KeepsNothingInTrainingOrWithGradients) {
  auto layer = make_merged();
  layer->options.path(LinearPath::kMerged);
  const auto x = torch::randn({1, kPositions, kInputs});
  layer->eval();
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(layer->forward_with_routing(x).cached);
  const torch::NoGradGuard no_grad;
  layer->train();
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(layer->forward_with_routing(x).cached);
  layer->eval();
  const auto two = torch::randn({2, kPositions, kInputs});
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(layer->forward_with_routing(two).cached);
}

TEST(MergedLinear, ChoosesByTheCostModel) {
  auto layer = make_merged();
  const torch::NoGradGuard no_grad;
  EXPECT_EQ(layer->forward_with_routing(torch::randn({kSequences, 1, kInputs})).path,
            LinearPath::kRouted);
  EXPECT_EQ(layer->forward_with_routing(torch::randn({kSequences, 4096, kInputs})).path,
            LinearPath::kMerged);
  layer->options.most_merged_bytes(10);
  EXPECT_EQ(layer->forward_with_routing(torch::randn({kSequences, 4096, kInputs})).path,
            LinearPath::kRouted);
}

TEST(MergedLinear, MergesATaskInEvaluationWhateverItCosts) {
  LayerCase c;
  c.options.unit(GateUnit::kTask);
  auto layer = make_merged(c);
  layer->eval();
  const torch::NoGradGuard no_grad;
  const auto task = torch::randn({kInputs});
  const auto x = torch::randn({1, 1, kInputs});
  EXPECT_EQ(layer->forward_with_routing(x, {}, task).path, LinearPath::kMerged);
  EXPECT_TRUE(layer->forward_with_routing(x, {}, task).cached);
}

TEST(MergedLinear, TakesOneSequenceOneTokenAndNone) {
  auto layer = make_merged();
  for (const auto path : {LinearPath::kRouted, LinearPath::kMerged}) {
    layer->options.path(path);
    const auto x = torch::randn({kPositions, kInputs});
    EXPECT_TRUE(torch::allclose(layer->forward(x), layer->forward(x.unsqueeze(0))[0]));
    EXPECT_EQ(layer->forward(torch::randn({3, 1, kInputs})).sizes(),
              torch::IntArrayRef({3, 1, kOutputs}));
    EXPECT_EQ(layer->forward(torch::randn({0, 4, kInputs})).sizes(),
              torch::IntArrayRef({0, 4, kOutputs}));
    RouterContext nothing;
    nothing.mask = torch::zeros({2, 4}, torch::kBool);
    const auto output = layer->forward_with_routing(torch::randn({2, 4, kInputs}), nothing);
    EXPECT_EQ(output.routing.num_tokens(), 0);
    EXPECT_EQ(output.values.abs().sum().item<double>(), 0);
  }
}

TEST(MergedLinear, MergesSixteenBitWeightsInFloat32) {
  LayerCase c{16};
  auto layer = make_merged(c);
  layer->experts->to(torch::kBFloat16);
  const auto routing = layer->router->forward(torch::randn({1, kInputs}), {});
  const auto merged = merge_linear(*layer->experts, routing, MergeBy::kProduct).weight[0];
  const auto wide = (layer->experts->weight.to(torch::kFloat64) *
                     routing.weight.to(torch::kFloat64).view({-1, 1, 1}))
                        .sum(0);
  EXPECT_EQ(merged.scalar_type(), torch::kBFloat16);
  // Rounded once, at the end.
  EXPECT_TRUE(torch::equal(merged, wide.to(torch::kFloat32).to(torch::kBFloat16)));
}

TEST(MergedLinear, TrainsItsNoisyGateByTheLossesOfShazeer) {
  LayerCase c{4};
  c.noise = true;
  auto layer = make_merged(c);
  const auto output = layer->forward_with_routing(torch::randn({kSequences, kPositions, kInputs}));
  EXPECT_EQ(output.routing.num_tokens(), kSequences);
  (importance_loss(output.routing.probs) + load_loss(output.routing)).backward();
  for (const auto& parameter : layer->router->parameters()) {
    EXPECT_TRUE(parameter.grad().defined());
  }
}

TEST(MergedLinear, StartsAsIfThereWereNoTokenBlock) {
  LayerCase with;
  with.options.token_reduction(4);
  auto a = make_merged(with);
  auto b = make_merged();
  copy_parameters(*b->router, *a->router);
  copy_parameters(*b->experts, *a->experts);
  const auto x = torch::randn({kSequences, kPositions, kInputs});
  EXPECT_TRUE(torch::equal(a->forward(x), b->forward(x)));
  EXPECT_EQ(a->token_block->down.sizes(), torch::IntArrayRef({3, kInputs}));
}

TEST(MergedLinear, ClonesDeeply) {
  LayerCase c;
  c.options.unit(GateUnit::kTask).num_tasks(2).task_size(kInputs).token_reduction(2);
  auto layer = make_merged(c);
  const auto copy = std::dynamic_pointer_cast<MergedLinearImpl>(layer->clone());
  const auto x = torch::randn({1, 3, kInputs});
  RouterContext context;
  context.task_id = torch::tensor({1, 0, 1}, torch::kLong).view({1, 3});
  const auto before = layer->forward_with_routing(x, context).values;
  EXPECT_TRUE(torch::equal(copy->forward_with_routing(x, context).values, before));
  const torch::NoGradGuard no_grad;
  for (auto& parameter : copy->parameters()) parameter.zero_();
  EXPECT_TRUE(torch::equal(layer->forward_with_routing(x, context).values, before));
}

template <typename Call>
std::string merged_refusal(const Call& call) {
  try {
    call();
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "";
}

TEST(MergedLinear, RefusesWithTheValues) {
  const auto of = [](const MergedLinearOptions& options, int64_t top_k = 4) {
    LayerCase c{top_k};
    c.options = options;
    return merged_refusal([&] { make_merged(c); });
  };
  EXPECT_NE(of(MergedLinearOptions().num_tasks(2).task_size(4)).find("sequence"),
            std::string::npos);
  EXPECT_NE(of(MergedLinearOptions().unit(GateUnit::kTask).num_tasks(2)).find("got 2 and 0"),
            std::string::npos);
  EXPECT_NE(of(MergedLinearOptions().unit(GateUnit::kTask).mean_over_padding(true))
                .find("mean_over_padding has no effect"),
            std::string::npos);
  EXPECT_NE(of(MergedLinearOptions().token_reduction(13)).find("got 13"), std::string::npos);
  EXPECT_NE(of(MergedLinearOptions().token_reduction(-1)).find("got -1"), std::string::npos);
  EXPECT_NE(merged_refusal([] {
              MergedLinear(std::make_shared<LinearRouterImpl>(LinearRouterOptions(4, 3)),
                           std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(4, 4, 2)));
            }).find("there are 2"),
            std::string::npos);
  EXPECT_NE(merged_refusal([] {
              MergedLinear(std::make_shared<LinearRouterImpl>(LinearRouterOptions(4, 2).top_k(1)),
                           std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(4, 4, 2)));
            }).find("top_k = 1"),
            std::string::npos);
  auto layer = make_merged();
  EXPECT_NE(merged_refusal([&] {
              layer->forward(torch::randn({2, 3, 5}));
            }).find("[2, 3, 5]"),
            std::string::npos);
  EXPECT_NE(
      merged_refusal([&] {
        layer->forward_with_routing(torch::randn({2, 3, kInputs}), {}, torch::randn({kInputs}));
      }).find("takes no task vector"),
      std::string::npos);
  LayerCase tasks;
  tasks.options.unit(GateUnit::kTask).num_tasks(2).task_size(kInputs);
  auto by_id = make_merged(tasks);
  EXPECT_NE(merged_refusal([&] {
              by_id->forward(torch::randn({2, 3, kInputs}));
            }).find("task_id"),
            std::string::npos);
  RouterContext context;
  context.task_id = torch::full({2, 3}, 2, torch::kLong);
  EXPECT_NE(merged_refusal([&] {
              by_id->forward_with_routing(torch::randn({2, 3, kInputs}), context);
            }).find("got 2"),
            std::string::npos);
}

}  // namespace
}  // namespace moekit::nn
