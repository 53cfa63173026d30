#include "moekit/nn/low_rank_mixture.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <limits>

#include "moekit/core/error.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

LowRankMixture low_rank(const LowRankOptions& options, bool moved = true) {
  LowRankMixture out(12, 10, options);
  out->reset_parameters(tensor::make_generator(1), tensor::make_generator(2));
  const torch::NoGradGuard no_grad;
  if (moved) out->experts->down_proj.normal_(0, 0.3, tensor::make_generator(3));
  return out;
}

torch::Tensor run(LowRankMixtureImpl& mixture, const torch::Tensor& x,
                  std::vector<LayerRouting>* layers = nullptr) {
  std::vector<LayerRouting> own;
  return mixture.forward(x, {}, "map", layers ? *layers : own);
}

double off(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

/// alpha / r B A x of one expert.
torch::Tensor expert_of(LowRankMixtureImpl& m, const torch::Tensor& x, int64_t e) {
  const double scale = m.options.alpha() / static_cast<double>(m.options.rank());
  return x.matmul(m.experts->up_proj[e].t()).matmul(m.experts->down_proj[e].t()) * scale;
}

TEST(LowRankMixture, AddsNothingAtFirstAndLearns) {
  for (const bool orthogonal : {false, true}) {
    auto mixture =
        low_rank(LowRankOptions().num_experts(3).orthogonal(orthogonal), /*moved=*/false);
    const auto x = torch::randn({2, 5, 12});
    const auto y = run(*mixture, x);
    EXPECT_EQ(y.sizes(), (std::vector<int64_t>{2, 5, 10}));
    EXPECT_EQ(y.abs().max().item<double>(), 0);
    (y * torch::randn_like(y)).sum().backward();
    EXPECT_GT(mixture->experts->down_proj.grad().abs().max().item<double>(), 0);
    for (const auto& p : mixture->parameters()) {
      EXPECT_TRUE(!p.grad().defined() || torch::isfinite(p.grad()).all().item<bool>());
    }
  }
}

TEST(LowRankMixture, OfOneExpertHasNoRouter) {
  auto mixture = low_rank(LowRankOptions().num_experts(1).rank(3).alpha(6));
  const auto x = torch::randn({7, 12});
  std::vector<LayerRouting> layers;
  EXPECT_LT(off(run(*mixture, x, &layers), expert_of(*mixture, x, 0)), 1e-5);
  EXPECT_TRUE(layers.empty());
  EXPECT_EQ(mixture->parameters().size(), 2U);
  EXPECT_EQ(mixture->routed_parts().router, nullptr);
}

TEST(LowRankMixture, WeighsAllExpertsByTheirShares) {
  auto mixture = low_rank(LowRankOptions().num_experts(3));
  const auto x = torch::randn({7, 12});
  std::vector<LayerRouting> layers;
  const auto y = run(*mixture, x, &layers);
  const auto share = torch::softmax(x.matmul(mixture->router->weight.t()), 1);
  auto want = torch::zeros({7, 10});
  for (int64_t e = 0; e < 3; ++e) {
    want = want + share.narrow(1, e, 1) * expert_of(*mixture, x, e);
  }
  EXPECT_LT(off(y, want), 1e-5);
  ASSERT_EQ(layers.size(), 1U);
  EXPECT_EQ(layers[0].name, "map");
  EXPECT_TRUE(layers[0].samples.equal(x));
}

TEST(LowRankMixture, TakesTheBestTwoAlone) {
  auto mixture = low_rank(LowRankOptions().num_experts(4).top_k(2));
  const auto x = torch::randn({9, 12});
  const auto [best, index] = x.matmul(mixture->router->weight.t()).topk(2, 1);
  const auto share = torch::softmax(best, 1);
  const auto y = run(*mixture, x);
  for (int64_t n = 0; n < 9; ++n) {
    auto want = torch::zeros({10});
    for (int64_t k = 0; k < 2; ++k) {
      const auto e = index[n][k].item<int64_t>();
      want = want + share[n][k] * expert_of(*mixture, x[n].unsqueeze(0), e)[0];
    }
    EXPECT_LT(off(y[n], want), 1e-5) << n;
  }
}

TEST(LowRankMixture, TakesTheChosenInTheirOrderWhereTheyAreMadeOrthogonal) {
  auto mixture = low_rank(LowRankOptions().num_experts(4).top_k(2).orthogonal(true));
  const auto x = torch::randn({9, 12});
  std::vector<LayerRouting> layers;
  const auto y = run(*mixture, x, &layers);
  const auto logits = x.matmul(mixture->router->weight.t());
  for (int64_t n = 0; n < 9; ++n) {
    const auto [best, index] = logits[n].topk(2);
    const auto share = torch::softmax(best, 0);
    const bool swapped = index[0].item<int64_t>() > index[1].item<int64_t>();
    const auto first = index[swapped ? 1 : 0].item<int64_t>();
    const auto second = index[swapped ? 0 : 1].item<int64_t>();
    const auto row = x[n].unsqueeze(0);
    const auto u = expert_of(*mixture, row, first)[0];
    auto v = expert_of(*mixture, row, second)[0];
    v = v - u.dot(v) / u.dot(u) * u;
    const auto want = share[swapped ? 1 : 0] * u + share[swapped ? 0 : 1] * v;
    EXPECT_LT(off(y[n], want), 1e-5) << n;
  }
  const auto index = std::get<0>(layers[0].routing.expert_index.sort(1));
  const auto outputs = mixture->expert_outputs(x, index);
  EXPECT_GT(mean_cosine(outputs.before), 0.05);
  EXPECT_LT(mean_cosine(outputs.after), 1e-5);
}

TEST(LowRankMixture, ACloneSharesNothing) {
  auto mixture = low_rank(LowRankOptions().num_experts(2));
  const auto x = torch::randn({4, 12});
  const auto before = run(*mixture, x);
  const auto copy = std::dynamic_pointer_cast<LowRankMixtureImpl>(mixture->clone());
  EXPECT_TRUE(run(*copy, x).equal(before));
  {
    const torch::NoGradGuard no_grad;
    for (auto& p : copy->parameters()) p.zero_();
  }
  EXPECT_TRUE(run(*mixture, x).equal(before));
  EXPECT_EQ(run(*copy, x).abs().max().item<double>(), 0);
}

TEST(LowRankMixture, RefusesWhatHasNoEffectOrDoesNotFit) {
  const auto refusal = [](const LowRankOptions& options) {
    try {
      check_low_rank(options, "adapters");
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal({}), "");
  EXPECT_NE(refusal(LowRankOptions().rank(8)).find("no effect with num_experts = 0"),
            std::string::npos);
  const auto two = LowRankOptions().num_experts(2);
  EXPECT_EQ(refusal(two), "");
  EXPECT_NE(refusal(LowRankOptions(two).top_k(3)).find("adapters.top_k"), std::string::npos);
  EXPECT_NE(refusal(LowRankOptions(two).top_k(1)).find("adapters.top_k = 1"), std::string::npos);
  EXPECT_NE(refusal(LowRankOptions(two).orthogonal_size(OrthogonalSize::kUnit)).find("orthogonal"),
            std::string::npos);
  EXPECT_NE(refusal(LowRankOptions().num_experts(1).orthogonal(true)).find("one expert"),
            std::string::npos);
  EXPECT_THROW(LowRankMixture(4, 4, LowRankOptions()), ArgumentError);
  EXPECT_THROW(LowRankMixture(4, 2, LowRankOptions().num_experts(3).orthogonal(true)),
               ArgumentError);
}

TEST(LowRankMixture, DrawsRouterAndExpertsFromAGeneratorEach) {
  LowRankMixture mixture(12, 10, LowRankOptions().num_experts(3));
  EXPECT_EQ(mixture->kept_experts(), (std::vector<int64_t>{0, 1, 2}));
  const auto drawn = [&](uint64_t routers, uint64_t others) {
    mixture->reset_parameters(tensor::make_generator(routers), tensor::make_generator(others));
    return std::pair(mixture->router->weight.detach().clone(),
                     mixture->experts->up_proj.detach().clone());
  };
  const auto a = drawn(1, 2), b = drawn(1, 3), c = drawn(4, 2);
  EXPECT_TRUE(a.first.equal(b.first));
  EXPECT_FALSE(a.second.equal(b.second));
  EXPECT_FALSE(a.first.equal(c.first));
  EXPECT_TRUE(a.second.equal(c.second));
  EXPECT_EQ(mixture->named_parameters().keys(),
            (std::vector<std::string>{"router.weight", "experts.up_proj", "experts.down_proj"}));
}

TEST(LowRankMixture, LeavesMaskedTokensOutAndListsTheOthers) {
  for (const bool orthogonal : {false, true}) {
    for (const int64_t top_k : {0, 2, 3}) {
      auto mixture =
          low_rank(LowRankOptions().num_experts(3).top_k(top_k).orthogonal(orthogonal).alpha(5));
      auto x = torch::randn({2, 4, 12});
      RouterContext context;
      context.mask = torch::ones({2, 4}, torch::kBool);
      context.mask[0][1] = false;
      x[0][1].fill_(std::numeric_limits<float>::quiet_NaN());
      std::vector<LayerRouting> layers;
      const auto y = mixture->forward(x, context, "map", layers);
      const auto rows = torch::tensor({0, 2, 3, 4, 5, 6, 7}, torch::kLong);
      const auto there = x.flatten(0, 1).index_select(0, rows);
      EXPECT_EQ(y[0][1].abs().max().item<double>(), 0);
      EXPECT_LT(off(y.flatten(0, 1).index_select(0, rows), run(*mixture, there)), 1e-5);
      ASSERT_EQ(layers.size(), 1U);
      EXPECT_TRUE(layers[0].routing.rows.equal(rows));
      EXPECT_TRUE(
          layers[0].routing.sequence.equal(torch::tensor({0, 0, 0, 1, 1, 1, 1}, torch::kLong)));
      EXPECT_TRUE(layers[0].samples.equal(there));
      EXPECT_EQ(layers[0].dropped, 0);
      // The same as the experts' outputs, weighted.
      const auto& routing = layers[0].routing;
      auto want = torch::zeros({7, 10});
      const auto all = mixture->expert_outputs(there, {});
      EXPECT_EQ(all.before.sizes(), (std::vector<int64_t>{7, 3, 10}));
      for (int64_t e = 0; e < 3; ++e) {
        EXPECT_LT(off(all.before.select(1, e), expert_of(*mixture, there, e)), 1e-5);
      }
      EXPECT_EQ(off(all.before, all.after) > 1e-3, orthogonal);
      if (orthogonal && top_k == 2) continue;  // orthogonal among the chosen alone
      for (int64_t a = 0; a < routing.num_assignments(); ++a) {
        const auto n = routing.token[a].item<int64_t>();
        want[n] += routing.weight[a] * all.after[n][routing.expert[a].item<int64_t>()];
      }
      EXPECT_LT(off(y.flatten(0, 1).index_select(0, rows), want), 1e-5);
    }
  }
}

TEST(LowRankMixture, GradientsReachRouterAndExpertsInBothForms) {
  for (const bool orthogonal : {false, true}) {
    for (const int64_t top_k : {0, 2}) {
      auto mixture = low_rank(LowRankOptions().num_experts(4).top_k(top_k).orthogonal(orthogonal));
      (run(*mixture, torch::randn({20, 12})) * torch::randn({20, 10})).sum().backward();
      for (const auto& item : mixture->named_parameters()) {
        EXPECT_GT(item.value().grad().abs().max().item<double>(), 0) << item.key();
      }
    }
  }
}

TEST(LowRankMixture, CountsItsRouter) {
  auto mixture = low_rank(LowRankOptions().num_experts(3).rank(2));
  const tensor::OperationCounter counter;
  run(*mixture, torch::randn({7, 12}));
  const std::vector<std::pair<std::string, double>> want{{"router", 2.0 * 7 * 12 * 3},
                                                         {"", 2.0 * 7 * 6 * 22}};
  EXPECT_EQ(counter.parts(), want);
}

}  // namespace
}  // namespace moekit::nn
