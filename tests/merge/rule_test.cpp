#include "moekit/merge/rule.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/merge/usage.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/generator.h"
#include "tests/merge/expert_copies.h"

namespace moekit::merge {
namespace {

std::vector<int64_t> roles_of(const std::vector<double>& counts,
                              const std::vector<int64_t>& frozen = {},
                              const Thresholds& thresholds = {}) {
  const auto roles = choose_roles(counts, frozen, thresholds);
  if (!roles) return {};
  return {roles->first, roles->second, roles->victim};
}
using Numbers = std::vector<int64_t>;

TEST(ChooseRoles, TheTwoMostUsedAndTheLeastUsed) {
  EXPECT_EQ(roles_of({10, 7, 1, 5}), (Numbers{0, 1, 2}));
  EXPECT_EQ(roles_of({1, 5, 10, 7}), (Numbers{2, 3, 0}));
  // Of equal ones the lower index.
  EXPECT_EQ(roles_of({4, 4, 4, 4}), (Numbers{0, 1, 2}));
  EXPECT_EQ(roles_of({0, 3, 0, 3, 0}), (Numbers{1, 3, 0}));
  // The other one of two stands between them.
  EXPECT_EQ(roles_of({0, 9, 9}), (Numbers{1, 2, 0}));
}

TEST(ChooseRoles, FrozenExpertsAreParentsAndNeverVictims) {
  EXPECT_EQ(roles_of({10, 7, 1, 5}, {2}), (Numbers{0, 1, 3}));
  EXPECT_EQ(roles_of({10, 7, 1, 5}, {0, 1}), (Numbers{0, 1, 2}));
  EXPECT_EQ(roles_of({10, 7, 1, 5}, {2, 3}), Numbers{});
}

TEST(ChooseRoles, NobodyWhereThereIsNoReason) {
  EXPECT_EQ(roles_of({}), Numbers{});
  EXPECT_EQ(roles_of({5, 1}), Numbers{});
  EXPECT_EQ(roles_of({0, 0, 0, 0}), Numbers{});
  EXPECT_EQ(roles_of({9, 7, 3}, {}, {7, 0}), (Numbers{0, 1, 2}));
  EXPECT_EQ(roles_of({9, 7, 3}, {}, {7.5, 0}), Numbers{});
  EXPECT_EQ(roles_of({9, 8, 6}, {}, {0, 0.25}), (Numbers{0, 1, 2}));
  EXPECT_EQ(roles_of({9, 8, 6}, {}, {0, 0.26}), Numbers{});
  EXPECT_EQ(roles_of({9, 0, 0}), (Numbers{0, 1, 2}));
  EXPECT_EQ(roles_of({9, 0, 0}, {}, {0, 0.1}), Numbers{});
}

TEST(ReplaceVictim, DoesWhatEachNameSays) {
  torch::manual_seed(1);
  nn::MoE moe(std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(6, 4).top_k(2)),
              std::make_shared<nn::MlpExpertsImpl>(nn::MlpExpertsOptions(6, 8, 4)));
  const auto layer = nn::routed_layers(*moe)[0];
  const Roles roles{0, 1, 2};
  std::vector<nn::ExpertTensors> before;
  for (int64_t e = 0; e < 4; ++e) before.push_back(copy_of(layer, e));
  const auto replace = [&](Replacement how, uint64_t seed = 1, const MergeOptions& options = {}) {
    replace_victim(layer, roles, how, {1, 1}, options, nullptr, tensor::make_generator(seed));
    for (const int64_t e : {0, 1, 3}) {
      EXPECT_TRUE(equal(copy_of(layer, e), before[static_cast<size_t>(e)]));
    }
    return copy_of(layer, 2);
  };
  EXPECT_TRUE(equal(replace(Replacement::kNone), before[2]));
  EXPECT_TRUE(equal(replace(Replacement::kCopyTop1), before[0]));
  EXPECT_TRUE(torch::equal(replace(Replacement::kMerge)[0].second,
                           (before[0][0].second + before[1][0].second) / 2));
  const auto drawn = replace(Replacement::kReinitVictim, 5);
  EXPECT_FALSE(equal(drawn, before[2]));
  EXPECT_TRUE(equal(replace(Replacement::kReinitVictim, 5), drawn));
  EXPECT_FALSE(equal(replace(Replacement::kReinitVictim, 6), drawn));
  // As the bank draws: within +-1/sqrt(fan in), and not all small.
  const double most = drawn[0].second.abs().max().item<double>();
  EXPECT_LE(most, 1 / std::sqrt(6.0));
  EXPECT_GT(most, 0.5 / std::sqrt(6.0));
  MergeOptions mean;
  mean.router_rows = RouterRows::kMean;
  EXPECT_THROW(replace(Replacement::kReinitVictim, 5, mean), ArgumentError);
}

nn::LayerRouting routing_of(const std::vector<std::vector<double>>& weights) {
  std::vector<int64_t> token, expert;
  std::vector<float> weight;
  const auto experts = static_cast<int64_t>(weights[0].size());
  for (size_t n = 0; n < weights.size(); ++n) {
    for (size_t e = 0; e < weights[n].size(); ++e) {
      if (weights[n][e] == 0) continue;
      token.push_back(static_cast<int64_t>(n));
      expert.push_back(static_cast<int64_t>(e));
      weight.push_back(static_cast<float>(weights[n][e]));
    }
  }
  nn::LayerRouting out;
  out.name = "moe";
  out.routing = nn::route_assignments(torch::zeros({static_cast<int64_t>(weights.size()), experts}),
                                      torch::tensor(token, torch::kLong),
                                      torch::tensor(expert, torch::kLong), torch::tensor(weight));
  return out;
}
using Counts = std::vector<double>;

TEST(UsageCounter, CountsByWindowHardAndSoft) {
  UsageCounter usage(0.5);
  EXPECT_TRUE(usage.counts("moe", UsageWindow::kTask, UsageCount::kHard).empty());
  const auto counts = [&](UsageWindow window, UsageCount count = UsageCount::kHard) {
    return usage.counts("moe", window, count);
  };
  usage.add({routing_of({{0.75, 0.25, 0}, {0.5, 0, 0.5}, {1, 0, 0}})});
  EXPECT_EQ(counts(UsageWindow::kTask), (Counts{3, 1, 1}));
  EXPECT_EQ(counts(UsageWindow::kTask, UsageCount::kSoft), (Counts{2.25, 0.25, 0.5}));
  usage.start_after_merge("moe");
  usage.add({routing_of({{0, 1, 0}, {0, 0.5, 0.5}})});
  EXPECT_EQ(counts(UsageWindow::kSinceMerge), (Counts{0, 2, 1}));
  EXPECT_EQ(counts(UsageWindow::kSinceMerge, UsageCount::kSoft), (Counts{0, 1.5, 0.5}));
  EXPECT_EQ(counts(UsageWindow::kTask), (Counts{3, 3, 2}));
  EXPECT_EQ(counts(UsageWindow::kExponential), (Counts{1.5, 2.5, 1.5}));
  usage.start_task();
  EXPECT_EQ(counts(UsageWindow::kTask), (Counts{0, 0, 0}));
  EXPECT_EQ(counts(UsageWindow::kSinceMerge), (Counts{0, 2, 1}));
  // A checkpoint keeps all of it.
  UsageCounter again(0.5);
  again.load_state(usage.state(), "state");
  EXPECT_EQ(again.state(), usage.state());
  EXPECT_THROW(usage.add({routing_of({{1, 0}})}), ArgumentError);
}

TEST(UsageCounter, ReplicasDecideByTheirSum) {
  // Two replicas in one process: each adds what the other has seen.
  UsageCounter usage(0.5, [](Counts& counts) {
    for (auto& c : counts) c *= 2;
  });
  usage.add({routing_of({{1, 0, 0}})});
  EXPECT_EQ(usage.counts("moe", UsageWindow::kTask, UsageCount::kHard), (Counts{2, 0, 0}));
}

TEST(UsageCounter, DamagedStatesAreRefused) {
  UsageCounter usage(0.5);
  usage.add({routing_of({{1, 0, 0}})});
  const auto refused = [&](const char* key, const Json& value) {
    Json state = usage.state();
    state["moe"][key] = value;
    UsageCounter other(0.5);
    EXPECT_THROW(other.load_state(state, "state"), FormatError) << key;
  };
  refused("task_hard", {1, 2});
  refused("task_soft", "much");
  refused("exponential_hard", {nullptr, 1, 1});
  EXPECT_THROW(UsageCounter(1), ArgumentError);
  EXPECT_THROW(UsageCounter(std::nan("")), ArgumentError);
}

}  // namespace
}  // namespace moekit::merge
