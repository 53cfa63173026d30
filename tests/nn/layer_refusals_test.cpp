// What layers and edits of whole models refuse, in whole sentences, and the last values they take.
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <limits>

#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/nn/fused_ffn.h"
#include "moekit/nn/low_rank_mixture.h"
#include "moekit/nn/merged_linear.h"
#include "moekit/nn/mixture.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/multi_head_moe.h"
#include "moekit/nn/packing.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/relu_router.h"
#include "moekit/nn/soft_moe.h"
#include "moekit/nn/surgery.h"
#include "moekit/nn/upcycle.h"
#include "tests/support/said.h"

namespace moekit::nn {
namespace {

std::shared_ptr<LinearRouterImpl> plain_router(int64_t size, int64_t experts, int64_t top_k = 0) {
  return std::make_shared<LinearRouterImpl>(LinearRouterOptions(size, experts).top_k(top_k));
}
std::shared_ptr<MlpExpertsImpl> plain_experts(const MlpExpertsOptions& options) {
  return std::make_shared<MlpExpertsImpl>(options);
}
std::shared_ptr<LinearExpertsImpl> linear_bank(int64_t size, int64_t outputs, int64_t experts) {
  return std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(size, outputs, experts));
}

/// Takes features of any size, so that only what has none is refused.
class AnyFeaturesRouter : public AttentiveRouterImpl {
 public:
  using AttentiveRouterImpl::AttentiveRouterImpl;
  int64_t feature_size() const override { return 0; }
};

TEST(LayerRefusals, OfMergedLinearsOptions) {
  const auto said = [](const MergedLinearOptions& options) {
    return refusal([&] { MergedLinear(plain_router(5, 3), linear_bank(5, 4, 3), options); });
  };
  using O = MergedLinearOptions;
  const auto task = O().unit(GateUnit::kTask);
  const std::string sizes = "MergedLinear: num_tasks and task_size must be at least 0; got ";
  const std::string effect = "MergedLinear: num_tasks and task_size have no effect with unit = ";
  const std::string together = "MergedLinear: num_tasks and task_size go together; got ";
  const std::string mean = "MergedLinear: mean_over_padding has no effect with unit = ";
  expect_said({
      {said(O()), kTaken},
      {said(O().token_reduction(5)), kTaken},
      {said(O().token_reduction(6)), "TokenBlock: reduction must be 1..hidden_size = 1..5; got 6"},
      {said(O().token_reduction(-1)),
       "MergedLinear: token_reduction must be 0 (none) or more; got -1"},
      {said(O().most_merged_bytes(0)), kTaken},
      {said(O().most_merged_bytes(-0.5)),
       "MergedLinear: most_merged_bytes must be at least 0; got -0.5"},
      {said(O(task).num_tasks(-1)), sizes + "-1 and 0"},
      {said(O(task).task_size(-1)), sizes + "0 and -1"},
      {said(O().num_tasks(1)), effect + "\"sequence\"; got 1 and 0"},
      {said(O().task_size(1)), effect + "\"sequence\"; got 0 and 1"},
      {said(O().unit(GateUnit::kPrefix).num_tasks(2).task_size(5)),
       effect + "\"prefix\"; got 2 and 5"},
      {said(O(task).num_tasks(1)), together + "1 and 0"},
      {said(O(task).task_size(1)), together + "0 and 1"},
      {said(O(task).num_tasks(1).task_size(5)), kTaken},
      {said(O(task).mean_over_padding(true)), mean + "\"task\", which takes no mean"},
      {said(O().unit(GateUnit::kToken).mean_over_padding(true)),
       mean + "\"token\", which takes no mean"},
      {said(O().mean_over_padding(true)), kTaken},
      {said(O().unit(GateUnit::kPrefix).mean_over_padding(true)), kTaken},
  });
}

TEST(LayerRefusals, OfMergedLinearsPartsAndTokens) {
  const auto made = [](std::shared_ptr<RouterImpl> router,
                       std::shared_ptr<LinearExpertsImpl> experts) {
    return refusal([&] { MergedLinear(router, experts); });
  };
  expect_said({
      {made(nullptr, linear_bank(5, 4, 3)), "MergedLinear: needs a router and experts"},
      {made(plain_router(5, 3), nullptr), "MergedLinear: needs a router and experts"},
      {made(plain_router(5, 4), linear_bank(5, 4, 3)),
       "MergedLinear: the router chooses of 4 experts; there are 3"},
      {made(plain_router(5, 3, 1), linear_bank(5, 4, 3)),
       "MergedLinear: top_k = 1 with combine_weights = \"renormalized\" gives the weight 1 "
       "whatever the router says: the task's loss cannot train the router. Take combine_weights = "
       "\"probs\" with more than one expert, or aux_only = true where losses on routing alone "
       "train it"},
      {made(std::make_shared<AttentiveRouterImpl>(AttentiveRouterOptions(5, 3)),
            linear_bank(5, 4, 3)),
       "MergedLinear: the router takes expert features of size 5; the experts give 0"},
      {made(std::make_shared<AnyFeaturesRouter>(AttentiveRouterOptions(5, 3)),
            linear_bank(5, 4, 3)),
       "MergedLinear: the router takes features of experts; linear ones have none"},
  });
  MergedLinear layer(plain_router(5, 3), linear_bank(5, 4, 3));
  const auto said = [&](at::IntArrayRef sizes, const torch::Tensor& task = {}) {
    return refusal([&] { layer->forward_with_routing(torch::ones(sizes), {}, task); });
  };
  const std::string tokens = "MergedLinear: tokens must be [B, T, 5] or [T, 5]; got ";
  expect_said({
      {said({2, 3, 5}), kTaken},
      {said({3, 5}), kTaken},
      {said({5}), tokens + "[5]"},
      {said({1, 2, 3, 5}), tokens + "[1, 2, 3, 5]"},
      {said({3, 4}), tokens + "[3, 4]"},
      {said({2, 3, 4}), tokens + "[2, 3, 4]"},
      {said({3, 5}, torch::ones({5})),
       "MergedLinear: unit = \"sequence\" with num_tasks = 0 takes no task vector"},
  });
  MergedLinear of_task(plain_router(5, 3), linear_bank(5, 4, 3),
                       MergedLinearOptions().unit(GateUnit::kTask));
  const auto asked = [&](const torch::Tensor& task) {
    return refusal([&] { of_task->forward_with_routing(torch::ones({3, 5}), {}, task); });
  };
  expect_said({
      {asked(torch::ones({5})), kTaken},
      {asked({}), "MergedLinear: unit = \"task\" with num_tasks = 0 needs a task vector [R]"},
      {asked(torch::ones({1, 5})), "task: wanted one vector [R]; got [1, 5]"},
  });
  MergedLinear by_id(plain_router(5, 3), linear_bank(5, 4, 3),
                     MergedLinearOptions().unit(GateUnit::kTask).num_tasks(4).task_size(5));
  const auto ids = [&](const torch::Tensor& id, const torch::Tensor& task = {}) {
    RouterContext context;
    context.task_id = id;
    return refusal([&] { by_id->forward_with_routing(torch::ones({3, 5}), context, task); });
  };
  const auto id = torch::tensor({0, 3, 1}, torch::kLong);
  expect_said({
      {ids(id), kTaken},
      {ids({}), "task_id: wanted one int64 for each of 3 tokens"},
      {ids(id.to(torch::kInt)), "task_id: wanted one int64 for each of 3 tokens; got [3] int"},
      {ids(torch::tensor({0, 3}, torch::kLong)),
       "task_id: wanted one int64 for each of 3 tokens; got [2] long int"},
      {ids(torch::tensor({0, 4, 5}, torch::kLong)), "task_id: there are tasks 0..3; got 4"},
      {ids(torch::tensor({0, 3, -1}, torch::kLong)), "task_id: there are tasks 0..3; got -1"},
      {ids(id, torch::ones({5})),
       "MergedLinear: unit = \"task\" with num_tasks = 4 takes no task vector"},
  });
  Routing loose = route(torch::ones({2, 3}), 2);
  loose.expert_index = torch::Tensor();
  EXPECT_EQ(refusal([&] { merge_linear(*layer->experts, loose, MergeBy::kGather); }),
            "MergedLinear: needs a router that sends every row to K experts");
}

TEST(LayerRefusals, OfTheFusedNetwork) {
  const auto x = torch::zeros({4, 5});
  const auto plan = make_plan(torch::zeros({4, 1}, torch::kLong), 2);
  const FfnParameters good{torch::zeros({2, 6, 5}), torch::zeros({2, 6, 5}),
                           torch::zeros({2, 3, 6}), torch::zeros({2, 6}),
                           torch::zeros({2, 6}),    torch::zeros({2, 3})};
  const auto why = [&](const torch::Tensor& tokens, const FfnParameters& p,
                       Activation activation = Activation::kSwiglu) {
    return FusedFfn::why_not(tokens, p, activation);
  };
  expect_said({
      {why(x, good), ""},
      {why({}, good), ""},
      {why(x, good, Activation::kTanh), "activation tanh has no kernel"},
      {why(x[0], good), "tokens are [5]; the kernels take [N, D]"},
      {why(x.unsqueeze(0), good), "tokens are [1, 4, 5]; the kernels take [N, D]"},
      {why(x.to(torch::kMeta), good), "tokens are on meta"},
      {why(x.to(torch::kFloat64), good), "tokens are double; the kernels take float"},
  });
  using Member = torch::Tensor FfnParameters::*;
  for (const Member member :
       {&FfnParameters::gate, &FfnParameters::up, &FfnParameters::down, &FfnParameters::gate_bias,
        &FfnParameters::up_bias, &FfnParameters::down_bias}) {
    auto wide = good;
    wide.*member = (wide.*member).to(torch::kFloat64);
    EXPECT_EQ(why(x, wide), "parameters are double; the kernels take float");
    wide.*member = (good.*member).to(torch::kMeta);
    EXPECT_EQ(why(x, wide), "parameters are on meta");
    auto turned = good;
    turned.*member = (turned.*member).transpose(-1, -2).contiguous().transpose(-1, -2);
    EXPECT_EQ(why(x, turned), "parameters are not contiguous");
  }
  FusedFfn fused;
  const auto said = [&](const torch::Tensor& tokens, const torch::Tensor& weight) {
    return refusal([&] {
      fused.forward(tokens, good, plan, weight, Activation::kSwiglu, kernels::ComputeType::kF32,
                    true);
    });
  };
  expect_said({
      {said(x, torch::ones({4})), kTaken},
      {said(x[0], torch::ones({4})), "FusedFfn: tokens are [5]; the kernels take [N, D]"},
      {said(torch::zeros({4, 6}), torch::ones({4})),
       "FusedFfn: tokens have 6 features; the experts take 5"},
      {said(x, torch::ones({3})), "weighted: weight must be [4]; got [3]"},
  });
}

TEST(LayerRefusals, OfUpcycling) {
  const MlpExpertsOptions one(5, 12, 1), many(5, 12, 6), slices(5, 4, 6);
  const auto said = [](const MlpExpertsOptions& dense, const MlpExpertsOptions& experts,
                       std::shared_ptr<RouterImpl> router, const UpcycleOptions& options = {}) {
    return refusal(
        [&] { upcycle(MlpExpertsImpl(dense), *plain_experts(experts), *router, options, {}); });
  };
  using M = MlpExpertsOptions;
  using U = UpcycleOptions;
  auto silent = plain_router(5, 6, 2);
  silent->options.combine_weights(CombineWeights::kLogits);
  expect_said({
      {said(one, many, plain_router(5, 6, 2)), kTaken},
      {said(one, slices, plain_router(5, 6, 3), U().granularity(3)), kTaken},
      {said(many, many, plain_router(5, 6, 2)), "upcycle: wants one dense network; got 6"},
      {said(one, many, plain_router(5, 6, 2), U().granularity(0)),
       "upcycle: granularity must be at least 1; got 0"},
      {said(one, M(4, 12, 6), plain_router(5, 6, 2)),
       "upcycle: the network maps 5 values to 5, the experts 4 to 4"},
      {said(one, M(many).output_size(7), plain_router(5, 6, 2)),
       "upcycle: the network maps 5 values to 5, the experts 5 to 7"},
      {said(one, slices, plain_router(5, 6, 2), U().granularity(2)),
       "upcycle: granularity = 2 experts of intermediate_size 4 do not make up the network's 12"},
      {said(one, M(many).activation(Activation::kGelu), plain_router(5, 6, 2)),
       "upcycle: the network's activation is relu, the experts' gelu"},
      {said(one, M(many).bias(false), plain_router(5, 6, 2)),
       "upcycle: the network has biases, the experts have none"},
      {said(M(one).bias(false), many, plain_router(5, 6, 2)),
       "upcycle: the network has no biases, the experts have some"},
      {said(one, M(many).weights(WeightLevels::kTernary), plain_router(5, 6, 2)),
       "upcycle: the network's weights are float, the experts' ternary"},
      {said(one, M(5, 4, 7), plain_router(5, 7, 3), U().granularity(3)),
       "upcycle: granularity = 3 does not divide the 7 experts"},
      {said(one, slices, plain_router(5, 6, 2), U().granularity(3)),
       "upcycle: granularity = 3 does not divide top_k = 2: a copy's slices are chosen together"},
      {said(one, many, std::make_shared<ReluRouterImpl>(ReluRouterOptions(5, 6))),
       "upcycle: the router's weights are 0 where it scores all experts the same"},
      {said(one, many, std::make_shared<AttentiveRouterImpl>(AttentiveRouterOptions(5, 6))),
       "upcycle: the router has no rows that score experts"},
      {said(one, many, plain_router(5, 6, 2), U().noise_std(0.5)),
       "upcycle: noise_std has no effect with noise_share = 0"},
      {said(one, many, plain_router(5, 6, 2), U().noise_std(0.5).noise_share(0.1)), kTaken},
      {said(one, many, plain_router(5, 6, 2), U().scale(UpcycleScale::kAll)),
       "upcycle: scale has no effect where nothing is made larger"},
      {said(one, slices, plain_router(5, 6, 3), U().granularity(3).scale(UpcycleScale::kAll)),
       kTaken},
      {said(one, many, silent),
       "upcycle: the router's weights are 0 where it scores all experts the same"},
      {refusal([&] {
         upcycle(MlpExpertsImpl(one), *linear_bank(5, 5, 6), *plain_router(5, 6, 2), {}, {});
       }),
       "upcycle: wants experts that are feed-forward networks"},
  });
}

TEST(LayerRefusals, OfLowRankMixtures) {
  using O = LowRankOptions;
  const auto said = [](const O& options) {
    return refusal([&] { check_low_rank(options, "here"); });
  };
  const std::string ranges =
      "here: num_experts, rank, alpha and top_k must be at least 0, 1, above 0 and at least 0; "
      "got ";
  const std::string none = "here: its other keys have no effect with num_experts = 0";
  const auto two = O().num_experts(2);
  expect_said({
      {said(O()), kTaken},
      {said(O().num_experts(-1)), ranges + "-1, 4, 8 and 0"},
      {said(O(two).rank(0)), ranges + "2, 0, 8 and 0"},
      {said(O(two).alpha(0)), ranges + "2, 4, 0 and 0"},
      {said(O(two).top_k(-1)), ranges + "2, 4, 8 and -1"},
      {said(O(two).rank(1).alpha(0.5)), kTaken},
      {said(O().rank(5)), none},
      {said(O().alpha(4)), none},
      {said(O().top_k(1)), none},
      {said(O().orthogonal(true)), none},
      {said(O().orthogonal_size(OrthogonalSize::kUnit)), none},
      {said(O(two).top_k(2)), kTaken},
      {said(O(two).top_k(3)), "here.top_k must be 0 (all) or 1..2; got 3"},
      {said(O(two).top_k(1)),
       "here.top_k = 1 with weights that sum to 1 gives no router a gradient; wanted 0 or 2 and "
       "more"},
      {said(O(two).orthogonal(true).orthogonal_size(OrthogonalSize::kUnit)), kTaken},
      {said(O().num_experts(1).orthogonal(true)), "here.orthogonal has no effect on one expert"},
      {said(O(two).orthogonal_size(OrthogonalSize::kUnit)),
       "here.orthogonal_size has no effect without orthogonal"},
  });
  const auto made = [](int64_t outputs, const O& options) {
    return refusal([&] { LowRankMixture(5, outputs, options); });
  };
  expect_said({
      {made(2, O().num_experts(3)), kTaken},
      {made(3, O().num_experts(3).orthogonal(true)), kTaken},
      {made(2, O().num_experts(3).orthogonal(true)),
       "LowRankMixture: outputs of 3 experts cannot be orthogonal in 2 dimensions"},
      {made(3, O()), "LowRankMixture: wants an expert"},
      {made(3, O().num_experts(2).top_k(3)), "LowRankMixture.top_k must be 0 (all) or 1..2; got 3"},
  });
}

TEST(LayerRefusals, OfMultiHeadMixtures) {
  const auto mixture = [](int64_t size) {
    return MoE(plain_router(size, 4, 2), plain_experts(MlpExpertsOptions(size, 5, 4)));
  };
  const auto said = [&](int64_t size, int64_t heads, int64_t part,
                        std::shared_ptr<ExpertsImpl> shared = nullptr) {
    return refusal(
        [&] { MultiHeadMoE(size, MultiHeadOptions().token_heads(heads), mixture(part), shared); });
  };
  expect_said({
      {said(6, 2, 3), kTaken},
      {said(1, 1, 1), kTaken},
      {said(6, 2, 3, plain_experts(MlpExpertsOptions(6, 2, 1))), kTaken},
      {said(6, 0, 3), "MultiHeadMoE: token_heads must divide hidden_size = 6; got 0"},
      {said(6, 4, 3), "MultiHeadMoE: token_heads must divide hidden_size = 6; got 4"},
      {said(0, 2, 3), "MultiHeadMoE: token_heads must divide hidden_size = 0; got 2"},
      {said(6, 3, 3), "MultiHeadMoE: the mixture gives 3 values; a part of a token has 2"},
      {said(6, 2, 3, plain_experts(MlpExpertsOptions(6, 2, 1).output_size(5))),
       "MultiHeadMoE: shared experts must give 6 values"},
  });
  MultiHeadMoE layer(6, MultiHeadOptions().token_heads(2), mixture(3));
  const auto run = [&](at::IntArrayRef sizes) {
    return refusal([&] { layer->forward_with_routing(torch::ones(sizes)); });
  };
  const std::string tokens = "MultiHeadMoE: tokens must be [N, 6] or [B, T, 6]; got ";
  expect_said({
      {run({5, 6}), kTaken},
      {run({2, 5, 6}), kTaken},
      {run({6}), tokens + "[6]"},
      {run({1, 2, 5, 6}), tokens + "[1, 2, 5, 6]"},
      {run({5, 3}), tokens + "[5, 3]"},
  });
  const auto cost = [](const ReferenceMixture& of, int64_t heads, int64_t top_k) {
    return refusal([&] { equal_cost(of, heads, top_k); });
  };
  const std::string least = "equal_cost: all sizes must be at least 1";
  const std::string of_cost = ": the two maps alone cost more than the reference's experts";
  expect_said({
      {cost({1, 3, 1, 1, 1}, 1, 1), kTaken},
      {cost({0, 3, 1, 1, 1}, 1, 1), least},
      {cost({1, 0, 1, 1, 1}, 1, 1), least},
      {cost({1, 3, 0, 1, 1}, 1, 1), least},
      {cost({1, 3, 1, 0, 1}, 1, 1), least},
      {cost({1, 3, 1, 1, 0}, 1, 1), least},
      {cost({1, 3, 1, 1, 1}, 0, 1), least},
      {cost({1, 3, 1, 1, 1}, 1, 0), least},
      {cost({3, 2, 5, 1, 3}, 4, 2),
       "equal_cost: d_mh = (k_0 d_moe - 2 d / m) / k = (1 * 2 - 2 * 3 / 3) / 2 = 0" + of_cost},
      {cost({8, 1, 5, 3, 2}, 4, 2),
       "equal_cost: d_mh = (k_0 d_moe - 2 d / m) / k = (3 * 1 - 2 * 8 / 2) / 2 = -2.5" + of_cost},
  });
}

TEST(LayerRefusals, OfMixtures) {
  const MlpExpertsOptions four(6, 5, 4);
  const auto routed = plain_experts(four);
  const auto said = [&](std::shared_ptr<RouterImpl> router, std::shared_ptr<ExpertsImpl> experts,
                        const MoEOptions& options = {},
                        std::shared_ptr<ExpertsImpl> shared = nullptr) {
    return refusal([&] { MoE(router, experts, options, shared); });
  };
  const auto attentive = [](int64_t size) {
    return std::make_shared<AttentiveRouterImpl>(AttentiveRouterOptions(size, 4).top_k(2));
  };
  CapacityOptions wrong;
  wrong.least = 2;
  const std::string cannot =
      ": the task's loss cannot train the router. Take combine_weights = \"probs\" with more than "
      "one expert, or aux_only = true where losses on routing alone train it";
  expect_said({
      {said(plain_router(6, 4, 2), routed), kTaken},
      {said(nullptr, routed), "MoE: needs a router and experts"},
      {said(plain_router(6, 4, 2), nullptr), "MoE: needs a router and experts"},
      {said(plain_router(6, 3, 2), routed), "MoE: the router chooses of 3 experts; there are 4"},
      {said(attentive(5), routed), kTaken},
      {said(attentive(6), routed),
       "MoE: the router takes expert features of size 6; the experts give 5"},
      {said(plain_router(6, 4, 2), routed, {}, plain_experts(MlpExpertsOptions(6, 2, 3))), kTaken},
      {said(plain_router(6, 4, 2), routed, {},
            plain_experts(MlpExpertsOptions(6, 2, 3).output_size(5))),
       "MoE: routed experts give 6 values a token; shared ones 5"},
      {said(plain_router(6, 4, 2), routed, MoEOptions().capacity(wrong)),
       "MoE: min_capacity, capacity_tau, capacity_priority and renormalize_dropped want a "
       "capacity_factor or "
       "eval_capacity_factor above 0: this layer never drops"},
      {said(plain_router(6, 4, 1), routed),
       "MoE: top_k = 1 with combine_weights = \"renormalized\" gives the weight 1 whatever the "
       "router says" +
           cannot},
      {said(plain_router(6, 4, 2), routed, MoEOptions().runtime(nullptr)), "MoE: needs a runtime"},
      {refusal([&] { Mixture(nullptr, routed); }), "Mixture: needs a router and experts"},
      {refusal([&] { Mixture(plain_router(6, 1), plain_experts(MlpExpertsOptions(6, 5, 1))); }),
       "Mixture: there is one expert, whose weight is 1 whatever the router says" + cannot},
      {refusal([&] { Mixture(plain_router(6, 4, 1), routed); }), kTaken},
  });
  MoE layer(plain_router(6, 4, 2), routed);
  const auto masked = [&](const torch::Tensor& mask) {
    RouterContext context;
    context.mask = mask;
    return refusal([&] { layer->forward_with_routing(torch::ones({2, 3, 6}), context); });
  };
  expect_said({
      {masked(torch::ones({2, 3}, torch::kBool)), kTaken},
      {masked(torch::ones({2, 3})), "mask: wanted one bool for each of 6 tokens; got [2, 3] float"},
      {masked(torch::ones({2, 2}, torch::kBool)),
       "mask: wanted one bool for each of 6 tokens; got [2, 2] bool"},
  });
}

TEST(LayerRefusals, OfSoftMixtures) {
  const auto networks = plain_experts(MlpExpertsOptions(4, 5, 3));
  const auto said = [](const SoftMoEOptions& options, std::shared_ptr<ExpertsImpl> experts) {
    return refusal([&] { SoftMoE(options, std::move(experts)); });
  };
  const std::string sizes = "SoftMoE: hidden_size and slots_per_expert must be at least 1; got ";
  using O = SoftMoEOptions;
  expect_said({
      {said(O(4), networks), kTaken},
      {said(O(4), nullptr), "SoftMoE: needs experts"},
      {said(O(4), std::make_shared<PatchExpertsImpl>(PatchExpertsOptions(4, 2, 3))),
       "SoftMoE: experts must take vectors [D]"},
      {said(O(0), networks), sizes + "0 and 1"},
      {said(O(4).slots_per_expert(0), networks), sizes + "4 and 0"},
  });
  SoftMoE layer(O(4).slots_per_expert(2), networks);
  const auto run = [&](at::IntArrayRef tokens, const torch::Tensor& mask = {}) {
    return refusal([&] { layer->forward_with_shares(torch::ones(tokens), mask); });
  };
  const std::string tokens = "SoftMoE: tokens must be [B, T, 4], T at least 1; got ";
  const std::string mask = "SoftMoE: the mask must be bool [B, T]";
  expect_said({
      {run({2, 1, 4}), kTaken},
      {run({2, 4}), tokens + "[2, 4]"},
      {run({2, 3, 5}), tokens + "[2, 3, 5]"},
      {run({2, 0, 4}), tokens + "[2, 0, 4]"},
      {run({2, 3, 4}, torch::ones({2, 3}, torch::kBool)), kTaken},
      {run({2, 3, 4}, torch::ones({2, 3})), mask},
      {run({2, 3, 4}, torch::ones({6}, torch::kBool)), mask},
      {run({2, 3, 4}, torch::ones({1, 3}, torch::kBool)), mask},
      {run({2, 3, 4}, torch::ones({2, 1}, torch::kBool)), mask},
  });
}

TEST(LayerRefusals, OfEdits) {
  torch::nn::Linear a(3, 2), b(4, 2), c(torch::nn::LinearOptions(3, 2).bias(false));
  torch::nn::BatchNorm1d norm(3);
  torch::nn::BatchNorm1d other(4);
  expect_said({
      {refusal([&] { copy_parameters(*a, *torch::nn::Linear(3, 2)); }), kTaken},
      {refusal([&] { copy_parameters(*a, *b); }),
       "copy_parameters: the modules differ:\n  weight is [2, 3], wanted [2, 4]"},
      {refusal([&] { copy_parameters(*a, *c); }),
       "copy_parameters: the modules differ:\n  unexpected bias"},
      {refusal([&] { copy_parameters(*c, *a); }),
       "copy_parameters: the modules differ:\n  missing bias"},
      {refusal([&] { copy_parameters(*norm, *other); }),
       "copy_parameters: the modules differ:\n  weight is [3], wanted [4]\n  bias is [3], wanted "
       "[4]\n  running_mean is [3], wanted [4]\n  running_var is [3], wanted [4]"},
  });
  MoE layer(plain_router(6, 4, 2), plain_experts(MlpExpertsOptions(6, 5, 4)));
  auto parts = layer->routed_parts();
  parts.name = "top";
  parts.module = layer.get();
  auto lost = parts;
  lost.router = nullptr;
  const auto frozen = [&](std::vector<int64_t> experts) {
    return refusal([&] { freeze_experts(parts, experts); });
  };
  const auto thawed = [&](std::vector<int64_t> experts) {
    return refusal([&] { unfreeze_experts(parts, experts); });
  };
  const auto taken = [&](std::vector<int64_t> experts) {
    return refusal([&] { take_experts(*layer, experts); });
  };
  expect_said({
      {refusal([&] { take_experts(lost, {0}); }), "take_experts: layer \"top\" has no router"},
      {taken({}), "take_experts: needs at least one expert"},
      {taken({3, 4}), "take_experts: expert 4; the layer has 4"},
      {taken({0, -1}), "take_experts: expert -1; the layer has 4"},
      {frozen({0, 3}), kTaken},
      {frozen({0, 4}), "freeze_experts: expert 4 of layer \"top\"; it has 4"},
      {frozen({-1}), "freeze_experts: expert -1 of layer \"top\"; it has 4"},
      {thawed({4}), "unfreeze_experts: expert 4 of layer \"top\"; it has 4"},
      {thawed({0, 3}), kTaken},
      {refusal([&] { expert_tensors(*layer->experts, 4); }),
       "expert_tensors: expert 4; there are 4"},
      {refusal([&] { expert_tensors(*layer->experts, -1); }),
       "expert_tensors: expert -1; there are 4"},
      {refusal([&] { expert_tensors(*layer->experts, 3); }), kTaken},
      {taken({3, 0}), kTaken},
  });
  auto moving = parts;
  moving.experts = std::make_shared<ConvExpertsImpl>(ConvExpertsOptions(
      ConvNetOptions(1, 8, 8).blocks({{2, 3, 1, true}}).hidden({4}).num_networks(3), 2));
  EXPECT_EQ(refusal([&] { freeze_experts(moving, {1}); }),
            "freeze_experts: layer \"top\": its experts have running statistics, which training "
            "moves; freeze the whole bank");
  auto parameter = torch::ones({3, 2}).requires_grad_();
  const auto old = (parameter + 1).sum();
  ExpertEdit edit(torch::tensor({2, 0}));
  edit.take_rows(parameter);
  edit.commit();
  EXPECT_EQ(refusal([&] { old.backward(); }),
            "backward: this graph was made before the experts of a layer were changed "
            "(take_experts); run forward again");
}

TEST(LayerRefusals, OfTypesAndPacking) {
  auto bank = plain_experts(MlpExpertsOptions(4, 5, 3));
  bank->up_bias.set_data(bank->up_bias.to(torch::kFloat64));
  EXPECT_EQ(refusal([&] {
              as_parameters(torch::ones({2, 4}), *bank);
            }),
            "moekit::nn::MlpExpertsImpl: parameters must be of one type; up_proj is float, up_bias "
            "is double");
  torch::nn::Linear map(3, 2);
  EXPECT_EQ(refusal([&] { pack_networks(*map, kernels::WeightFormat::kF32); }),
            "the model has no feed-forward networks that could be packed");
}

}  // namespace
}  // namespace moekit::nn
