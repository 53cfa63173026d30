// What each router refuses, word by word, and what it says of itself.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/base_router.h"
#include "moekit/nn/routers/expert_choice_router.h"
#include "moekit/nn/routers/gshard_router.h"
#include "moekit/nn/routers/hash_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/nn/routers/patch_sum.h"
#include "moekit/nn/routers/relu_router.h"
#include "moekit/nn/routers/scored_router.h"
#include "moekit/nn/routers/task_routers.h"
#include "moekit/nn/routers/trunk.h"
#include "moekit/tensor/generator.h"
#include "tests/support/refusal.h"

namespace moekit::nn {
namespace {

const std::string kRouterTaken = "nothing was thrown";

template <typename Router, typename Options>
std::string router_refused(const Options& options) {
  return refusal([&] { Router router(options); });
}

LayerSite vectors_site(int64_t size, int64_t experts) {
  LayerSite site;
  site.input = {size};
  site.num_experts = experts;
  return site;
}

RouterContext task_context(const torch::Tensor& task) {
  RouterContext context;
  context.task_id = task;
  return context;
}

TEST(RouterRefusals, OfTheLinearRouter) {
  using O = LinearRouterOptions;
  const auto told = [](const O& options) { return router_refused<LinearRouter>(options); };
  EXPECT_EQ(told(O(3, 1)), kRouterTaken);
  EXPECT_EQ(told(O(3, 0)), "LinearRouter: num_experts must be at least 1; got 0");
  EXPECT_EQ(told(O(3, 4).top_k(4)), kRouterTaken);
  EXPECT_EQ(told(O(3, 4).top_k(5)),
            "LinearRouter: top_k must be 0 (all) or 1..4 (num_experts); got 5");
  EXPECT_EQ(told(O(3, 4).noise_scale(0)), kRouterTaken);
  EXPECT_EQ(told(O(3, 4).noise_scale(2)),
            "LinearRouter: noise_scale has no effect with noise = \"none\"; got 2");
  EXPECT_EQ(told(O(3, 4).noise(RouterNoise::kUniform).noise_scale(0.5)), kRouterTaken);
  EXPECT_EQ(
      told(O(3, 4).noise(RouterNoise::kUniform).noise_scale(0)),
      "LinearRouter: noise_scale must be positive with noise = \"uniform\" (an empty range is "
      "no noise); got 0");
  EXPECT_EQ(told(O(3, 4).noise(RouterNoise::kGaussian).noise_scale(0)),
            "LinearRouter: noise_scale must be positive with noise = \"gaussian\" (an empty range "
            "is no noise); got 0");
  for (const auto weights : {CombineWeights::kProbs, CombineWeights::kCleanProbs}) {
    EXPECT_EQ(told(O(3, 4).top_k(2).combine_weights(weights).weight_norm(1)), kRouterTaken);
  }
  EXPECT_EQ(told(O(3, 4).top_k(2).weight_norm(1)),
            "LinearRouter: weight_norm wants combine_weights = \"probs\" or \"clean_probs\"; got "
            "\"renormalized\"");
  EXPECT_EQ(told(O(3, 4).combine_weights(CombineWeights::kLogits).weight_norm(2)),
            "LinearRouter: weight_norm wants combine_weights = \"probs\" or \"clean_probs\"; got "
            "\"logits\"");
  LinearRouter router(O(3, 4));
  EXPECT_EQ(refusal([&] {
              router->forward(torch::zeros({2, 4}), {});
            }),
            "LinearRouter: tokens must be [N, 3]; got [2, 4]");
  EXPECT_EQ(refusal([&] { router->forward(torch::zeros({3}), {}); }),
            "LinearRouter: tokens must be [N, 3]; got [3]");
  EXPECT_EQ(refusal([&] {
              router->forward(torch::zeros({2, 2, 3}), {});
            }),
            "LinearRouter: tokens must be [N, 3]; got [2, 2, 3]");
  LinearRouter residual(O(3, 4).residual(true).previous_experts(5));
  const std::string wanted =
      "LinearRouter: residual = true needs the logits [2, 5] of the mixture before; got ";
  const auto with = [&](const torch::Tensor& before) {
    RouterContext context;
    context.previous_logits = before;
    return refusal([&] { residual->forward(torch::zeros({2, 3}), context); });
  };
  EXPECT_EQ(with(torch::zeros({2, 5})), kRouterTaken);
  EXPECT_EQ(with({}), wanted + "none");
  EXPECT_EQ(with(torch::zeros({10})), wanted + "[10]");
  EXPECT_EQ(with(torch::zeros({3, 5})), wanted + "[3, 5]");
  EXPECT_EQ(with(torch::zeros({2, 4})), wanted + "[2, 4]");
  auto site = vectors_site(3, 4);
  const LinearRouterConfig config{{}, O().residual(true)};
  EXPECT_EQ(refusal([&] { check_linear_router(config, site, "r"); }),
            "r.residual = true has no effect: the model has no second mixture, which could take "
            "another's logits");
  site.previous_experts = 1;
  EXPECT_EQ(refusal([&] { check_linear_router(config, site, "r"); }), kRouterTaken);
  EXPECT_EQ(refusal([&] {
              check_linear_router({{}, O().top_k(5)}, site, "r");
            }),
            "r.top_k must be 0 (all) or 1..4 (num_experts); got 5");
}

TEST(RouterRefusals, OfTheAttentiveRouter) {
  using O = AttentiveRouterOptions;
  EXPECT_EQ(router_refused<AttentiveRouter>(O(1, 2)), kRouterTaken);
  EXPECT_EQ(router_refused<AttentiveRouter>(O(0, 2)),
            "AttentiveRouter: hidden_size must be positive; got 0");
  EXPECT_EQ(router_refused<AttentiveRouter>(O(3, 2).top_k(3)),
            "AttentiveRouter: top_k must be 0 (all) or 1..2 (num_experts); got 3");
  AttentiveRouter router(O(4, 3));
  const auto told = [&](const torch::Tensor& tokens, const torch::Tensor& features) {
    RouterContext context;
    context.expert_features = features;
    return refusal([&] { router->forward(tokens, context); });
  };
  const auto x = torch::zeros({5, 4});
  EXPECT_EQ(told(x, {}), "AttentiveRouter: needs the experts' features and got none");
  EXPECT_EQ(told(torch::zeros({5, 3}), torch::zeros({3, 5, 4})),
            "AttentiveRouter: the trunk must give [N, 4]; got [5, 3]");
  EXPECT_EQ(told(torch::zeros({4}), torch::zeros({3, 5, 4})),
            "AttentiveRouter: the trunk must give [N, 4]; got [4]");
  const std::string wanted = "AttentiveRouter: expert features must be [3, 5, 4]; got ";
  EXPECT_EQ(told(x, torch::zeros({3, 20})), wanted + "[3, 20]");
  EXPECT_EQ(told(x, torch::zeros({2, 5, 4})), wanted + "[2, 5, 4]");
  EXPECT_EQ(told(x, torch::zeros({3, 6, 4})), wanted + "[3, 6, 4]");
  EXPECT_EQ(told(x, torch::zeros({3, 5, 3})), wanted + "[3, 5, 3]");
  auto site = vectors_site(4, 3);
  const auto checked = [&](int64_t feature_size, int64_t top_k) {
    site.feature_size = feature_size;
    return refusal([&] { check_attentive_router({{}, O().top_k(top_k)}, site, "r"); });
  };
  EXPECT_EQ(checked(4, 3), kRouterTaken);
  EXPECT_EQ(checked(4, 4), "r.top_k must be 0 (all) or 1..3 (num_experts); got 4");
  EXPECT_EQ(checked(0, 0),
            "r.kind = \"attentive\": these experts have no hidden vector to attend to");
  EXPECT_EQ(checked(5, 0),
            "r.kind = \"attentive\" wants equal h: the experts' hidden vectors have 5, the "
            "router's 4");
  TrunkOptions trunk;
  trunk.trunk.hidden = {2};
  EXPECT_EQ(refusal([&] {
              check_attentive_router({trunk, O()}, site, "r");
            }),
            "r.trunk: this layer routes vectors, without a trunk");
}

TEST(RouterRefusals, OfTheBaseRouter) {
  EXPECT_EQ(router_refused<BaseRouter>(BaseRouterOptions(3, 1)), kRouterTaken);
  EXPECT_EQ(router_refused<BaseRouter>(BaseRouterOptions(3, 0)),
            "BaseRouter: num_experts must be at least 1; got 0");
  BaseRouter router(BaseRouterOptions(3, 4));
  RouterContext context;
  EXPECT_EQ(refusal([&] { router->forward(torch::zeros({6, 3}), context); }), kRouterTaken);
  context.training = true;
  EXPECT_EQ(refusal([&] { router->forward(torch::zeros({8, 3}), context); }), kRouterTaken);
  EXPECT_EQ(refusal([&] {
              router->forward(torch::zeros({6, 3}), context);
            }),
            "BaseRouter: 6 tokens cannot be dealt out evenly to 4 experts: the batch's tokens must "
            "be a multiple of num_experts");
  EXPECT_EQ(refusal([&] {
              router->forward(torch::zeros({4, 2}), context);
            }),
            "BaseRouter: tokens must be [N, 3]; got [4, 2]");
}

TEST(RouterRefusals, OfRoutersThatWantAnAverageOfExperts) {
  const auto choice = [](double average) {
    return router_refused<ExpertChoiceRouter>(
        ExpertChoiceRouterOptions(3, 4).experts_per_token(average));
  };
  const auto relu = [](double average) {
    return router_refused<ReluRouter>(ReluRouterOptions(3, 4).experts_per_token(average));
  };
  EXPECT_EQ(choice(0.25), kRouterTaken);
  EXPECT_EQ(choice(4), kRouterTaken);
  EXPECT_EQ(relu(0.25), kRouterTaken);
  EXPECT_EQ(relu(4), kRouterTaken);
  const std::string wanted = "experts_per_token must be above 0 and at most the 4 experts; got ";
  EXPECT_EQ(choice(0), "ExpertChoice: " + wanted + "0");
  EXPECT_EQ(choice(4.5), "ExpertChoice: " + wanted + "4.5");
  EXPECT_EQ(relu(4.5), "ReluRouter: " + wanted + "4.5");
  const auto site = vectors_site(3, 4);
  EXPECT_EQ(refusal([&] {
              check_expert_choice_router(ExpertChoiceRouterOptions().experts_per_token(5), site,
                                         "r");
            }),
            "r." + wanted + "5");
  EXPECT_EQ(
      refusal([&] { check_relu_router(ReluRouterOptions().experts_per_token(5), site, "r"); }),
      "r." + wanted + "5");
  EXPECT_EQ(refusal([&] {
              ReluRouter(ReluRouterOptions(3, 4))->forward(torch::zeros({2, 4}), {});
            }),
            "ReluRouter: tokens must be [N, 3]; got [2, 4]");
  EXPECT_EQ(refusal([&] {
              ExpertChoiceRouter(ExpertChoiceRouterOptions(3, 4))->forward(torch::zeros({3}), {});
            }),
            "ExpertChoice: tokens must be [N, 3]; got [3]");
}

TEST(RouterRefusals, OfTheGshardRouter) {
  EXPECT_EQ(router_refused<GshardRouter>(GshardRouterOptions(3, 2)), kRouterTaken);
  EXPECT_EQ(router_refused<GshardRouter>(GshardRouterOptions(3, 1)),
            "GshardRouter: a token goes to two experts; there is 1");
  EXPECT_EQ(refusal([&] { check_gshard_router({}, vectors_site(3, 1), "r"); }),
            "r: a token goes to two experts; there is 1");
  GshardRouter router(GshardRouterOptions(3, 4));
  ExpertEdit one(torch::tensor({2}));
  EXPECT_EQ(refusal([&] { router->take_experts(one); }),
            "GshardRouter: a token goes to two experts; there is 1");
  ExpertEdit two(torch::tensor({2, 0}));
  const auto rows = router->weight.detach().clone();
  router->take_experts(two);
  two.commit();
  EXPECT_EQ(router->options.num_experts(), 2);
  EXPECT_TRUE(torch::equal(router->weight, torch::stack({rows[2], rows[0]})));
  EXPECT_EQ(refusal([&] {
              router->forward(torch::zeros({2, 4}), {});
            }),
            "GshardRouter: tokens must be [N, 3]; got [2, 4]");
}

TEST(RouterRefusals, OfTheHashRouter) {
  using O = HashRouterOptions;
  EXPECT_EQ(router_refused<HashRouter>(O(1, 1)), kRouterTaken);
  EXPECT_EQ(router_refused<HashRouter>(O(0, 2)),
            "HashRouter: vocabulary_size and num_experts must be at least 1; got 0 and 2");
  EXPECT_EQ(router_refused<HashRouter>(O(2, 0)),
            "HashRouter: vocabulary_size and num_experts must be at least 1; got 2 and 0");
  HashRouter router(O(5, 2));
  const auto told = [&](const torch::Tensor& id) {
    RouterContext context;
    context.token_id = id;
    return refusal([&] { router->forward(torch::zeros({2, 3}), context); });
  };
  const std::string needed = "HashRouter: needs the id of every token";
  EXPECT_EQ(told(torch::tensor({0, 4})), kRouterTaken);
  EXPECT_EQ(told({}), needed);
  EXPECT_EQ(told(torch::tensor({{0, 4}})), needed);
  EXPECT_EQ(told(torch::tensor({0, 1, 2})), needed);
  EXPECT_EQ(told(torch::tensor({0, 1}, torch::kInt)), needed);
  EXPECT_EQ(told(torch::tensor({0, 5})), "HashRouter: ids must be 0..4; got 5");
  EXPECT_EQ(told(torch::tensor({-1, 3})), "HashRouter: ids must be 0..4; got -1");
  RouterContext none;
  none.token_id = torch::empty({0}, torch::kLong);
  EXPECT_EQ(router->forward(torch::zeros({0, 3}), none).num_assignments(), 0);
  auto site = vectors_site(3, 2);
  const auto checked = [&](int64_t vocabulary) {
    site.vocabulary_size = vocabulary;
    return refusal([&] { check_hash_router({}, site, "r"); });
  };
  EXPECT_EQ(checked(1), kRouterTaken);
  EXPECT_EQ(checked(0),
            "r.kind = \"hash\" goes by the ids of tokens; this layer's tokens have none");
}

TEST(RouterRefusals, OfTheOracleRouter) {
  using Groups = OracleRouterOptions::Groups;
  const auto told = [](const Groups& groups) {
    return router_refused<OracleRouter>(OracleRouterOptions(groups));
  };
  EXPECT_EQ(told({{0}, {}, {2}}), kRouterTaken);
  EXPECT_EQ(told({{0}, {-1}}), "OracleRouter: task ids start at 0; group 1 has -1");
  EXPECT_EQ(told({{0}, {2}, {1, 2}}), "OracleRouter: task 2 is in group 1 and in group 2");
  OracleRouter router(OracleRouterOptions(Groups{{4}, {}, {0, 2}}));
  const auto routed = [&](const torch::Tensor& task) {
    return refusal([&] { router->forward(torch::zeros({2, 1}), task_context(task)); });
  };
  const std::string needed = "OracleRouter: needs one int64 task id a token";
  EXPECT_EQ(routed(torch::tensor({4, 0})), kRouterTaken);
  EXPECT_EQ(routed({}), needed);
  EXPECT_EQ(routed(torch::tensor({{4, 0}})), needed);
  EXPECT_EQ(routed(torch::tensor({4, 0, 0})), needed);
  EXPECT_EQ(routed(torch::tensor({4, 0}, torch::kInt)), needed);
  EXPECT_EQ(routed(torch::tensor({0, 5})), "OracleRouter: task id 5 is in no group");
  EXPECT_EQ(routed(torch::tensor({-1, 4})), "OracleRouter: task id 4 is in no group");
  EXPECT_EQ(routed(torch::tensor({0, 3})), "OracleRouter: a task id is in no group");
  const auto logits =
      router->forward(torch::zeros({3, 1}), task_context(torch::tensor({2, 4, 0}))).logits;
  const float out = -std::numeric_limits<float>::infinity();
  EXPECT_TRUE(
      torch::equal(logits, torch::tensor({{out, out, 0.F}, {0.F, out, out}, {out, out, 0.F}})));
  const auto empty =
      router->forward(torch::zeros({0, 1}), task_context(torch::empty({0}, torch::kLong)));
  EXPECT_EQ(empty.logits.sizes().vec(), (std::vector<int64_t>{0, 3}));
  EXPECT_FALSE(router->traits().learns);
  ExpertEdit edit(torch::tensor({2, 0}));
  router->take_experts(edit);
  EXPECT_EQ(router->num_experts(), 3);
  edit.commit();
  EXPECT_EQ(router->options.groups(), (Groups{{0, 2}, {4}}));
  const auto after = router->forward(torch::zeros({2, 1}), task_context(torch::tensor({4, 2})));
  EXPECT_TRUE(torch::equal(after.probs, torch::tensor({{0.F, 1.F}, {1.F, 0.F}})));
  ExpertEdit twice(torch::tensor({1, 1}));
  EXPECT_EQ(refusal([&] { router->take_experts(twice); }),
            "OracleRouter: task 4 is in group 0 and in group 1");
}

TEST(RouterRefusals, OfTheOracleRoutersGroupsInARecipe) {
  auto site = vectors_site(3, 2);
  site.num_tasks = 3;
  const auto told = [&](const OracleRouterOptions::Groups& groups) {
    return refusal([&] { check_oracle_router(OracleRouterOptions(groups), site, "r"); });
  };
  EXPECT_EQ(told({{0, 2}, {1}}), kRouterTaken);
  EXPECT_EQ(told({{0, 1, 2}}), "r.groups: wants one group of labels an expert, 2; got 1");
  EXPECT_EQ(told({{0}, {1}, {2}}), "r.groups: wants one group of labels an expert, 2; got 3");
  EXPECT_EQ(told({{0, 2}, {-1}}), "r.groups: label -1; there are 3");
  EXPECT_EQ(told({{0, 2}, {3}}), "r.groups: label 3; there are 3");
  EXPECT_EQ(told({{0, 2}, {1, 2}}), "r.groups: label 2 is in two groups");
  EXPECT_EQ(told({{0}, {1}}), "r.groups: label 2 is in no group");
  EXPECT_EQ(told({{2}, {1}}), "r.groups: label 0 is in no group");
}

TEST(RouterRefusals, OfTheScoredRouter) {
  using O = ScoredRouterOptions;
  const auto told = [](const O& options) { return router_refused<ScoredRouter>(options); };
  EXPECT_EQ(told(O(3, 4).top_k(1)), kRouterTaken);
  EXPECT_EQ(told(O(3, 4).top_k(4)), kRouterTaken);
  EXPECT_EQ(told(O(3, 4).top_k(5)), "ScoredRouter: top_k must be 1..4; got 5");
  EXPECT_EQ(told(O(3, 6).num_groups(3).kept_groups(3).top_k(6)), kRouterTaken);
  EXPECT_EQ(told(O(3, 6).num_groups(4)),
            "ScoredRouter: num_groups must divide the 6 experts; got 4");
  EXPECT_EQ(told(O(3, 6).num_groups(3).kept_groups(4)),
            "ScoredRouter: kept_groups must be 1..3; got 4");
  EXPECT_EQ(told(O(3, 6).num_groups(3).kept_groups(1).top_k(2)), kRouterTaken);
  EXPECT_EQ(told(O(3, 6).num_groups(3).kept_groups(1).top_k(3)),
            "ScoredRouter: kept_groups: 1 groups of 2 experts hold no top_k = 3");
  EXPECT_EQ(told(O(3, 4).num_groups(4).kept_groups(2)),
            "ScoredRouter: group_score = \"top_two\" wants groups of two experts at least; "
            "num_groups = 4 gives 1");
  EXPECT_EQ(told(O(3, 4).num_groups(4).kept_groups(2).group_score(GroupScore::kLargest)),
            kRouterTaken);
  EXPECT_EQ(told(O(3, 1).top_k(1)), kRouterTaken);
  EXPECT_EQ(told(O(3, 4).group_score(GroupScore::kLargest)),
            "ScoredRouter: group_score has no effect with num_groups = 1");
  EXPECT_EQ(refusal([&] { check_scored_router(O().top_k(3), vectors_site(3, 2), "r"); }),
            "r.top_k must be 1..2; got 3");
  EXPECT_EQ(refusal([&] {
              ScoredRouter(O(3, 4))->forward(torch::zeros({2, 4}), {});
            }),
            "ScoredRouter: tokens must be [N, 3]; got [2, 4]");
}

TEST(RouterRefusals, OfTaskRouters) {
  using List = std::vector<std::shared_ptr<RouterImpl>>;
  const auto linear = [](int64_t experts) {
    return std::make_shared<LinearRouterImpl>(LinearRouterOptions(3, experts));
  };
  const auto told = [](const List& routers) { return router_refused<TaskRouters>(routers); };
  EXPECT_EQ(told(List{}), "TaskRouters: wants a router for each task; got none");
  EXPECT_EQ(told(List{linear(4), nullptr}), "TaskRouters: task 1 has no router");
  EXPECT_EQ(told(List{linear(4), linear(4), linear(6)}), kRouterTaken);
  EXPECT_EQ(told(List{linear(4), linear(6), linear(5)}),
            "TaskRouters: task 2 has a router of 5 experts, task 1 one of 6");
  TaskRouters routers(List{linear(4), linear(6)});
  EXPECT_EQ(refusal([&] { routers->set_active(-1); }), "TaskRouters: task -1; there are 2");
  EXPECT_EQ(refusal([&] { routers->set_active(2); }), "TaskRouters: task 2; there are 2");
  routers->set_active(1);
  EXPECT_EQ(routers->active_task(), 1);
  EXPECT_EQ(refusal([&] {
              routers->forward(torch::zeros({2, 3}), {});
            }),
            "TaskRouters: the router of task 1 knows 6 experts, and there are 4");
  ExpertEdit edit(torch::tensor({0, 1}));
  EXPECT_EQ(refusal([&] { routers->take_experts(edit); }),
            "TaskRouters: experts of a pool that grows cannot be taken");
}

TEST(RouterRefusals, OfTrunks) {
  LayerSite images;
  images.input = {2, 8, 12};
  const auto told = [](const TrunkOptions& options, const LayerSite& site) {
    return refusal([&] { check_trunk(options, site, "r"); });
  };
  TrunkOptions sums;
  sums.input = RouterInput::kPatchSum;
  EXPECT_EQ(told(sums, vectors_site(3, 2)), "r.input: this layer routes vectors, not images");
  TrunkOptions net;
  net.trunk.hidden = {4};
  EXPECT_EQ(told(net, images), kRouterTaken);
  net.trunk_relu = false;
  EXPECT_EQ(told(net, images), kRouterTaken);
  EXPECT_EQ(told(net, vectors_site(3, 2)), "r.trunk: this layer routes vectors, without a trunk");
  for (const bool side : {true, false}) {
    TrunkOptions idle;
    (side ? void(idle.patch_size = 3) : void(idle.trunk_relu = false));
    EXPECT_EQ(told(idle, vectors_site(3, 2)),
              "r.patch_size and trunk_relu have no effect on a layer that routes vectors");
  }
  net.input = RouterInput::kPatchSum;
  EXPECT_EQ(told(net, images), "r.input = \"patch_sum\" wants no r.trunk");
  TrunkOptions rest;
  rest.trunk_relu = false;
  EXPECT_EQ(told(rest, images), "r.trunk_relu has no effect without r.trunk");
  TrunkOptions convolutions;
  convolutions.trunk.conv = {ConvBlock{3, 3, 0, false}};
  EXPECT_EQ(told(convolutions, vectors_site(3, 2)),
            "r.trunk: this layer routes vectors, without a trunk");
  for (const int64_t side : {-1, 3, 8}) {
    sums.patch_size = side;
    EXPECT_EQ(told(sums, images), concat("r.patch_size must divide 8x12; got ", side));
  }
}

TEST(Trunks, GiveWhatTheySay) {
  torch::manual_seed(3);
  LayerSite images;
  images.input = {2, 8, 12};
  const auto x = torch::randn({3, 2, 8, 12});
  const auto given = [&](const TrunkOptions& options) {
    auto trunk = make_trunk(options, images);
    const auto out = run_trunk(trunk.module, x);
    EXPECT_EQ(out.sizes().vec(), (std::vector<int64_t>{3, trunk.size}));
    return out;
  };
  EXPECT_TRUE(torch::equal(given({}), x.flatten(1)));
  TrunkOptions sums;
  sums.input = RouterInput::kPatchSum;
  EXPECT_TRUE(torch::allclose(given(sums), x.sum(2).flatten(1), 1e-5, 1e-5));
  sums.patch_size = 4;
  auto want = torch::zeros({3, 2, 4, 4});
  for (int64_t i = 0; i < 8; i += 4) {
    for (int64_t k = 0; k < 12; k += 4) want += x.slice(2, i, i + 4).slice(3, k, k + 4);
  }
  EXPECT_TRUE(torch::allclose(given(sums), want.flatten(1), 1e-5, 1e-5));
  TrunkOptions net;
  net.trunk.hidden = {7, 5};
  EXPECT_EQ(given(net).size(1), 5);
  EXPECT_GE(given(net).min().item<double>(), 0);
  net.trunk_relu = false;
  EXPECT_LT(given(net).min().item<double>(), 0);
  const auto none = make_trunk({}, vectors_site(6, 2));
  EXPECT_TRUE(none.module.is_empty());
  EXPECT_EQ(none.size, 6);
  PatchSum patches(4);
  EXPECT_EQ(refusal([&] {
              patches->forward(torch::zeros({1, 2, 8, 10}));
            }),
            "PatchSum: images must be [N, C, H, W] with H and W multiples of 4; got [1, 2, 8, 10]");
  EXPECT_EQ(refusal([&] {
              patches->forward(torch::zeros({1, 2, 6, 8}));
            }),
            "PatchSum: images must be [N, C, H, W] with H and W multiples of 4; got [1, 2, 6, 8]");
  EXPECT_EQ(refusal([&] {
              patches->forward(torch::zeros({2, 4, 8}));
            }),
            "PatchSum: images must be [N, C, H, W] with H and W multiples of 4; got [2, 4, 8]");
}

TEST(Trunks, AreDrawnWithTheirRouterWhereTheyCanBe) {
  const auto x = torch::randn({3, 1, 8, 8});
  LinearRouter router(LinearRouterOptions(4, 2),
                      torch::nn::AnyModule(ConvTrunk(ConvNetOptions(1, 8, 8).hidden({4}), true)));
  const auto drawn = [&](uint64_t seed) {
    router->reset_parameters(tensor::make_generator(seed));
    return router->forward(x, {}).logits.detach();
  };
  const auto first = drawn(1);
  const auto trunk = router->named_parameters()["trunk.net.fc0_weight"].detach().clone();
  drawn(2);
  EXPECT_FALSE(torch::equal(router->named_parameters()["trunk.net.fc0_weight"], trunk));
  EXPECT_TRUE(torch::equal(drawn(1), first));
  EXPECT_TRUE(torch::allclose(router->forward(x.to(torch::kFloat64), {}).logits, first));
  // One of libtorch's keeps the weights it came with.
  LinearRouter other(LinearRouterOptions(4, 2), torch::nn::AnyModule(torch::nn::Linear(5, 4)));
  const auto kept = other->named_parameters()["trunk.weight"].detach().clone();
  other->reset_parameters(tensor::make_generator(1));
  EXPECT_TRUE(torch::equal(other->named_parameters()["trunk.weight"], kept));
  // Sums of patches are in float at least.
  LinearRouter sums(LinearRouterOptions(8, 2), torch::nn::AnyModule(PatchSum(0)));
  const auto images = torch::randn({3, 1, 90, 8}).to(torch::kBFloat16);
  EXPECT_TRUE(torch::allclose(
      sums->forward(images, {}).logits,
      torch::linear(images.to(torch::kFloat32).sum(2).flatten(1), sums->weight, sums->bias), 1e-4,
      1e-4));
}

}  // namespace
}  // namespace moekit::nn
