// What routers decide, held against plain loops; what they say of themselves; how they lose
// experts.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <limits>
#include <random>
#include <sstream>

#include "moekit/core/random.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/base_router.h"
#include "moekit/nn/routers/expert_choice_router.h"
#include "moekit/nn/routers/gshard_router.h"
#include "moekit/nn/routers/hash_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/relu_router.h"
#include "moekit/nn/routers/scored_router.h"
#include "moekit/nn/routers/task_routers.h"
#include "moekit/tensor/generator.h"

namespace moekit::nn {
namespace {

RouterContext rules_training(uint64_t seed) {
  RouterContext context;
  context.training = true;
  context.generator = tensor::make_generator(seed);
  return context;
}

torch::Tensor rules_normal(at::IntArrayRef sizes, uint64_t seed) {
  return torch::empty(sizes).normal_(0, 1, tensor::make_generator(seed));
}

std::string printed(const torch::nn::Module& module) {
  std::ostringstream out;
  module.pretty_print(out);
  return out.str();
}

/// Takes these experts and gives what the rows of all parameters of before were.
template <typename Router>
void expect_rows_taken(Router& router, const std::vector<int64_t>& experts) {
  std::vector<torch::Tensor> before;
  for (const auto& p : router.parameters()) before.push_back(p.detach().clone());
  const auto index = torch::tensor(experts, torch::kLong);
  ExpertEdit edit(index);
  router.take_experts(edit);
  edit.commit();
  const auto after = router.parameters();
  ASSERT_EQ(after.size(), before.size());
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_TRUE(torch::equal(after[i], before[i].index_select(0, index))) << i;
  }
  EXPECT_EQ(router.num_experts(), index.numel());
  EXPECT_EQ(router.options.num_experts(), index.numel());
}

/// Uniform within +-1/sqrt(fan_in), and the generator's.
template <typename Router>
void expect_drawn(Router& router, const torch::Tensor& weight, int64_t fan_in) {
  router.reset_parameters(tensor::make_generator(4));
  const auto first = weight.detach().clone();
  const double most = 1 / std::sqrt(static_cast<double>(fan_in));
  EXPECT_LE(first.abs().max().template item<double>(), most);
  EXPECT_GT(first.abs().max().template item<double>(), 0.8 * most);
  router.reset_parameters(tensor::make_generator(5));
  EXPECT_FALSE(torch::equal(weight, first));
  router.reset_parameters(tensor::make_generator(4));
  EXPECT_TRUE(torch::equal(weight, first));
}

TEST(LinearRouterRules, EveryPartOfTheLogitsIsWhereItBelongs) {
  LinearRouter router(LinearRouterOptions(3, 5)
                          .temperature(0.5)
                          .residual(true)
                          .previous_experts(4)
                          .noise(RouterNoise::kGaussian)
                          .noise_scale(0.7)
                          .top_k(2));
  {
    const torch::NoGradGuard no_grad;
    EXPECT_EQ(router->noise_weight.abs().sum().item<double>(), 0);
    router->noise_weight.copy_(rules_normal({5, 3}, 2));
  }
  const auto x = rules_normal({6, 3}, 1);
  auto context = rules_training(9);
  context.previous_logits = rules_normal({6, 4}, 3);
  const auto clean = (x.matmul(router->weight.t()) + router->bias) * 2 +
                     context.previous_logits.matmul(router->residual_weight.t());
  const auto size = torch::log1p(torch::exp(x.matmul(router->noise_weight.t()))) * 0.7;
  const auto routing = router->forward(x, context);
  EXPECT_TRUE(torch::allclose(routing.clean_logits, clean, 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(routing.noise_std, size, 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(routing.logits, clean + rules_normal({6, 5}, 9) * size, 1e-4, 1e-5));
  EXPECT_EQ(routing.top_k(), 2);
  routing.noise_std.sum().backward();
  EXPECT_GT(router->noise_weight.grad().abs().sum().item<double>(), 0);
  LinearRouter uniform(LinearRouterOptions(3, 5).noise(RouterNoise::kUniform).noise_scale(0.3));
  const auto noisy = uniform->forward(x, rules_training(9));
  const auto drawn = torch::empty({6, 5}).uniform_(0, 1, tensor::make_generator(9)) * 0.3;
  EXPECT_TRUE(torch::allclose(noisy.logits, noisy.clean_logits + drawn));
  EXPECT_FALSE(noisy.noise_std.defined());
  // In float32 at least, whatever tokens are.
  EXPECT_EQ(uniform->forward(x.to(torch::kBFloat16), {}).logits.scalar_type(), torch::kFloat32);
  EXPECT_EQ(uniform->forward(x.to(torch::kFloat64), {}).logits.scalar_type(), torch::kFloat64);
}

TEST(LinearRouterRules, ParametersAreDrawnByTheGeneratorOrZero) {
  LinearRouter router(LinearRouterOptions(6, 40).residual(true).previous_experts(9));
  expect_drawn(*router, router->weight, 6);
  expect_drawn(*router, router->bias, 6);
  expect_drawn(*router, router->residual_weight, 9);
  EXPECT_EQ(router->expert_rows().size(), 3U);
  EXPECT_TRUE(router->expert_rows()[1].is_same(router->bias));
  EXPECT_TRUE(router->expert_rows()[2].is_same(router->residual_weight));
  EXPECT_TRUE(torch::equal(router->directions(), router->weight));
  EXPECT_FALSE(router->directions().requires_grad());
  LinearRouter zero(LinearRouterOptions(6, 4).init(RouterInit::kZero));
  for (const auto& p : zero->parameters()) EXPECT_EQ(p.abs().sum().item<double>(), 0);
  LinearRouter bare(LinearRouterOptions(6, 4).bias(false).noise(RouterNoise::kGaussian));
  EXPECT_FALSE(bare->bias.defined());
  EXPECT_EQ(bare->parameters().size(), 2U);
  EXPECT_EQ(bare->expert_rows().size(), 2U);
  LinearRouter plain(LinearRouterOptions(6, 4).previous_experts(9));  // not asked for
  EXPECT_FALSE(plain->residual_weight.defined());
  EXPECT_EQ(printed(*plain), "moekit::nn::LinearRouter(hidden_size=6, num_experts=4, top_k=0)");
}

TEST(LinearRouterRules, TraitsAreThoseOfItsOptions) {
  using O = LinearRouterOptions;
  const auto traits = [](const O& options) { return LinearRouter(options)->traits(); };
  const auto dense = traits(O(3, 4));
  EXPECT_EQ(dense.top_k, 0);
  EXPECT_TRUE(dense.learns);
  EXPECT_FALSE(dense.adds_noise);
  EXPECT_FALSE(dense.gaussian_noise);
  EXPECT_FALSE(dense.aux_only);
  EXPECT_EQ(dense.no_weight_gradient, "");
  EXPECT_EQ(dense.combine_weights, CombineWeights::kRenormalized);
  const auto one = traits(O(3, 4).top_k(1).aux_only(true).noise(RouterNoise::kUniform));
  EXPECT_EQ(one.top_k, 1);
  EXPECT_TRUE(one.aux_only);
  EXPECT_TRUE(one.adds_noise);
  EXPECT_FALSE(one.gaussian_noise);
  EXPECT_EQ(one.no_weight_gradient, why_no_gradient(1, 4, CombineWeights::kRenormalized));
  EXPECT_NE(one.no_weight_gradient, "");
  const auto normed = O(3, 4).combine_weights(CombineWeights::kProbs).weight_norm(2);
  EXPECT_EQ(traits(O(normed).top_k(1)).no_weight_gradient,
            "top_k = 1 with a weight_norm gives the weight 1 whatever the router says");
  EXPECT_EQ(traits(O(normed).top_k(2)).no_weight_gradient, "");
  EXPECT_EQ(traits(O(normed).top_k(2)).combine_weights, CombineWeights::kProbs);
  EXPECT_EQ(traits(O(3, 4).top_k(1).combine_weights(CombineWeights::kProbs)).no_weight_gradient,
            "");
  EXPECT_TRUE(traits(O(3, 4).noise(RouterNoise::kGaussian)).gaussian_noise);
}

TEST(LinearRouterRules, ExpertsAreTakenFromAllItsRows) {
  LinearRouter router(LinearRouterOptions(3, 5)
                          .noise(RouterNoise::kGaussian)
                          .residual(true)
                          .previous_experts(4)
                          .top_k(3));
  expect_rows_taken(*router, {4, 1, 0, 2});
  EXPECT_EQ(router->options.top_k(), 3);
  expect_rows_taken(*router, {3, 0});
  EXPECT_EQ(router->options.top_k(), 2);
  LinearRouter dense(LinearRouterOptions(3, 5));
  expect_rows_taken(*dense, {2, 1});
  EXPECT_EQ(dense->options.top_k(), 0);  // all
}

TEST(AttentiveRouterRules, DrawsPrintsAndKeepsItsOptions) {
  AttentiveRouter router(AttentiveRouterOptions(6, 4).top_k(3));
  expect_drawn(*router, router->query_weight, 6);
  expect_drawn(*router, router->key_weight, 6);
  EXPECT_FALSE(torch::equal(router->query_weight, router->key_weight));
  EXPECT_EQ(printed(*router), "moekit::nn::AttentiveRouter(hidden_size=6, num_experts=4)");
  EXPECT_EQ(router->feature_size(), 6);
  const auto traits = router->traits();
  EXPECT_EQ(traits.top_k, 3);
  EXPECT_FALSE(traits.aux_only);
  EXPECT_EQ(traits.no_weight_gradient, "");
  EXPECT_EQ(traits.combine_weights, CombineWeights::kRenormalized);
  const auto one =
      AttentiveRouter(AttentiveRouterOptions(6, 4).top_k(1).aux_only(true).combine_weights(
                          CombineWeights::kProbs))
          ->traits();
  EXPECT_TRUE(one.aux_only);
  EXPECT_EQ(one.combine_weights, CombineWeights::kProbs);
  EXPECT_NE(AttentiveRouter(AttentiveRouterOptions(6, 4).top_k(1))->traits().no_weight_gradient,
            "");
  RouterContext context;
  context.expert_features = rules_normal({4, 5, 6}, 2);
  EXPECT_EQ(router->forward(rules_normal({5, 6}, 1), context).top_k(), 3);
  context.expert_features = context.expert_features.to(torch::kFloat64);
  EXPECT_EQ(router->forward(rules_normal({5, 6}, 1), context).logits.scalar_type(),
            torch::kFloat64);
  ExpertEdit edit(torch::tensor({1, 3}));
  router->take_experts(edit);
  edit.commit();
  EXPECT_EQ(router->num_experts(), 2);
  EXPECT_EQ(router->options.top_k(), 2);
  LayerSite site;
  site.input = {6};
  site.num_experts = 3;
  const auto made = make_attentive_router({{}, AttentiveRouterOptions().top_k(2)}, site);
  EXPECT_EQ(made->num_experts(), 3);
  EXPECT_EQ(made->feature_size(), 6);
  EXPECT_EQ(made->traits().top_k, 2);
}

TEST(BaseRouterRules, BeginsWithOrthogonalRowsOrColumnsOfATenth) {
  for (const auto& [experts, size] : {std::pair{3, 7}, std::pair{7, 3}, std::pair{4, 4}}) {
    BaseRouter router(BaseRouterOptions(size, experts));
    router->reset_parameters(tensor::make_generator(3));
    const auto w = router->weight.detach().to(torch::kFloat64);
    const auto gram = experts <= size ? w.matmul(w.t()) : w.t().matmul(w);
    EXPECT_TRUE(torch::allclose(gram, 0.01 * torch::eye(gram.size(0), torch::kFloat64), 0, 1e-7));
    BaseRouter other(BaseRouterOptions(size, experts));
    EXPECT_FALSE(torch::equal(other->weight, router->weight));
    other->reset_parameters(tensor::make_generator(3));
    EXPECT_TRUE(torch::equal(other->weight, router->weight));
    // As torch::nn::init::orthogonal_: the signs are those of a factor with a positive diagonal.
    const auto drawn = rules_normal({experts, size}, 3).to(torch::kFloat64);
    const auto factor = experts <= size ? drawn.matmul(w.t()) : w.t().matmul(drawn);
    EXPECT_TRUE(factor.diagonal().gt(0).all().item<bool>());
  }
}

TEST(BaseRouterRules, DealsEvenlyInTrainingAndTakesTheBestOutsideOfIt) {
  BaseRouter router(BaseRouterOptions(3, 3));
  const auto x = rules_normal({9, 3}, 1) + 1;
  const auto logits = x.matmul(router->weight.t());
  const auto calm = router->forward(x, {});
  EXPECT_TRUE(torch::equal(calm.expert, logits.argmax(1)));
  const auto even = router->forward(x, rules_training(1));
  EXPECT_TRUE(torch::equal(torch::bincount(even.expert, {}, 3), torch::tensor({3, 3, 3})));
  for (const auto& routing : {calm, even}) {
    EXPECT_TRUE(torch::equal(routing.token, torch::arange(9)));
    EXPECT_TRUE(torch::equal(routing.expert_index, routing.expert.unsqueeze(1)));
    const auto own = logits.gather(1, routing.expert.unsqueeze(1)).squeeze(1);
    EXPECT_TRUE(torch::allclose(routing.weight, 1 / (1 + torch::exp(-own))));
  }
  even.weight.sum().backward();
  EXPECT_GT(router->weight.grad().abs().sum().item<double>(), 0);
  const auto traits = router->traits();
  EXPECT_EQ(traits.top_k, 1);
  EXPECT_EQ(traits.token_multiple, 3);
  EXPECT_EQ(traits.combine_weights, CombineWeights::kProbs);
  expect_rows_taken(*router, {2, 0});
}

TEST(ExpertChoiceRules, EveryExpertTakesItsBestTokensOfEachGroup) {
  ExpertChoiceRouter router(ExpertChoiceRouterOptions(4, 3).experts_per_token(1.5));
  const auto x = rules_normal({11, 4}, 2);
  RouterContext context;
  const std::vector<int64_t> of = {0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2};
  context.sequence = torch::tensor(of, torch::kLong);
  const auto probs = torch::softmax(x.matmul(router->weight.t()), 1);
  std::vector<int64_t> token, expert;
  for (int64_t s = 0; s < 3; ++s) {
    std::vector<int64_t> own;
    for (int64_t n = 0; n < 11; ++n) {
      if (of[static_cast<size_t>(n)] == s) own.push_back(n);
    }
    // ceil(1.5 * tokens / 3): 3 of 5, 1 of 1.
    const auto capacity = static_cast<size_t>((own.size() + 1) / 2);
    for (int64_t e = 0; e < 3; ++e) {
      auto sorted = own;
      std::sort(sorted.begin(), sorted.end(), [&](int64_t a, int64_t b) {
        return probs[a][e].item<float>() > probs[b][e].item<float>();
      });
      for (size_t c = 0; c < capacity; ++c) {
        token.push_back(sorted[c]);
        expert.push_back(e);
      }
    }
  }
  const auto routing = router->forward(x, context);
  EXPECT_TRUE(torch::equal(routing.token, torch::tensor(token, torch::kLong)));
  EXPECT_TRUE(torch::equal(routing.expert, torch::tensor(expert, torch::kLong)));
  for (int64_t a = 0; a < routing.num_assignments(); ++a) {
    EXPECT_NEAR(
        routing.weight[a].item<double>(),
        probs[routing.token[a].item<int64_t>()][routing.expert[a].item<int64_t>()].item<double>(),
        1e-6);
  }
  routing.weight.square().sum().backward();
  EXPECT_GT(router->weight.grad().abs().sum().item<double>(), 0);
  const auto traits = router->traits();
  EXPECT_FALSE(traits.causal);
  EXPECT_EQ(traits.combine_weights, CombineWeights::kProbs);
  EXPECT_EQ(traits.no_weight_gradient, "");
  EXPECT_EQ(ExpertChoiceRouter(ExpertChoiceRouterOptions(4, 1).experts_per_token(1))
                ->traits()
                .no_weight_gradient,
            "there is one expert, whose weight is 1 whatever the router says");
  expect_rows_taken(*router, {2, 0});
  EXPECT_EQ(router->options.experts_per_token(), 1.5);
  expect_rows_taken(*router, {1});
  EXPECT_EQ(router->options.experts_per_token(), 1);
}

TEST(GshardRouterRules, SaysWhetherItDraws) {
  EXPECT_TRUE(GshardRouter(GshardRouterOptions(3, 4).random_second(true))->traits().adds_noise);
  EXPECT_FALSE(GshardRouter(GshardRouterOptions(3, 4).random_second(false))->traits().adds_noise);
  EXPECT_EQ(GshardRouter(GshardRouterOptions(3, 4))->traits().top_k, 0);
  GshardRouter router(GshardRouterOptions(3, 4).random_second(true));
  const auto x = rules_normal({50, 3}, 1);
  const auto logits = x.matmul(router->weight.t());
  const auto [top, best] = logits.topk(2, 1);
  const auto share = torch::softmax(top, 1);
  const auto drawn = torch::empty({50}).uniform_(0, 1, tensor::make_generator(6));
  std::vector<int64_t> token, expert;
  std::vector<float> weight;
  for (int64_t which = 0; which < 2; ++which) {
    for (int64_t n = 0; n < 50; ++n) {
      const float of = share[n][which].item<float>();
      if (which == 1 && drawn[n].item<float>() >= 2 * of) continue;
      token.push_back(n);
      expert.push_back(best[n][which].item<int64_t>());
      weight.push_back(of);
    }
  }
  const auto routing = router->forward(x, rules_training(6));
  EXPECT_LT(token.size(), 100U);
  EXPECT_TRUE(torch::equal(routing.token, torch::tensor(token, torch::kLong)));
  EXPECT_TRUE(torch::equal(routing.expert, torch::tensor(expert, torch::kLong)));
  EXPECT_TRUE(torch::allclose(routing.weight, torch::tensor(weight)));
}

TEST(HashRouterRules, TablesAreThoseOfTheirSeed) {
  const auto seed = derive_seed(7, "hash-table");
  HashRouter even(HashRouterOptions(10, 3).table(HashTable::kEven).table_seed(7));
  const auto order = random_permutation(10, seed);
  for (int64_t i = 0; i < 10; ++i) {
    EXPECT_EQ(even->expert_of_token[order[static_cast<size_t>(i)]].item<int64_t>(), i % 3);
  }
  HashRouter drawn(HashRouterOptions(10, 3).table_seed(7));
  std::mt19937_64 generator(seed);
  for (int64_t i = 0; i < 10; ++i) {
    EXPECT_EQ(drawn->expert_of_token[i].item<int64_t>(),
              static_cast<int64_t>(uniform_below(generator, 3)));
  }
  RouterContext context;
  context.token_id = torch::tensor({9, 0, 4, 0});
  const auto routing = drawn->forward(rules_normal({4, 2}, 1), context);
  EXPECT_TRUE(
      torch::equal(routing.expert, drawn->expert_of_token.index_select(0, context.token_id)));
  EXPECT_TRUE(torch::equal(routing.probs, torch::one_hot(routing.expert, 3).to(torch::kFloat32)));
  EXPECT_EQ(routing.logits.gather(1, routing.expert_index).abs().sum().item<double>(), 0);
  EXPECT_EQ(torch::isinf(routing.logits).sum().item<int64_t>(), 8);
  const auto traits = drawn->traits();
  EXPECT_FALSE(traits.learns);
  EXPECT_EQ(traits.top_k, 1);
  EXPECT_EQ(traits.combine_weights, CombineWeights::kProbs);
  ExpertEdit same(torch::tensor({0, 1, 2}));
  EXPECT_NO_THROW(drawn->take_experts(same));
  for (const auto& index : {std::vector<int64_t>{0, 1}, {0, 2, 1}, {0, 1, 2, 2}}) {
    ExpertEdit edit(torch::tensor(index, torch::kLong));
    EXPECT_THROW(drawn->take_experts(edit), ArgumentError);
  }
}

TEST(ScoredRouterRules, SharesCorrectionAndGroupsAreKeptApart) {
  ScoredRouter router(
      ScoredRouterOptions(4, 6).top_k(2).num_groups(3).kept_groups(2).weight_scale(1.5).bias_rate(
          0.1));
  const auto x = rules_normal({7, 4}, 3);
  const auto scores = torch::sigmoid(x.matmul(router->weight.t()));
  const auto routing = router->forward(x, rules_training(1));
  EXPECT_TRUE(torch::allclose(routing.probs, scores / scores.sum(1, true)));
  EXPECT_FALSE(routing.takes_all);
  EXPECT_TRUE(torch::equal(routing.token, torch::arange(7).repeat_interleave(2)));
  EXPECT_TRUE(torch::equal(routing.expert, routing.expert_index.flatten()));
  EXPECT_TRUE(torch::allclose(routing.weight.view({7, 2}).sum(1), torch::full({7}, 1.5)));
  router->end_step({});
  EXPECT_GT(router->correction.abs().sum().item<double>(), 0);
  expect_rows_taken(*router, {5, 0, 3});
  EXPECT_EQ(router->correction.size(0), 3);
  EXPECT_EQ(router->options.num_groups(), 1);
  EXPECT_EQ(router->options.kept_groups(), 1);
  EXPECT_EQ(router->options.top_k(), 2);
  router->forward(x, rules_training(1));
  router->reset_parameters(tensor::make_generator(2));
  EXPECT_EQ(router->correction.abs().sum().item<double>(), 0);
  router->end_step({});  // what was counted before is forgotten
  EXPECT_EQ(router->correction.abs().sum().item<double>(), 0);
  expect_rows_taken(*router, {1});
  EXPECT_EQ(router->options.top_k(), 1);
  expect_drawn(*router, router->weight, 4);
  ScoredRouter largest(
      ScoredRouterOptions(4, 6).num_groups(3).kept_groups(2).group_score(GroupScore::kLargest));
  expect_rows_taken(*largest, {0, 1, 2, 3});
  EXPECT_EQ(largest->options.group_score(), ScoredRouterOptions{}.group_score());
  ScoredRouter plain(ScoredRouterOptions(4, 6));
  EXPECT_FALSE(plain->correction.defined());
  EXPECT_EQ(plain->buffers().size(), 0U);
  EXPECT_NO_THROW(plain->end_step({}));
  EXPECT_NO_THROW(plain->reset_parameters(tensor::make_generator(2)));
  const auto traits = ScoredRouter(ScoredRouterOptions(4, 6).top_k(1))->traits();
  EXPECT_EQ(traits.top_k, 1);
  EXPECT_EQ(traits.combine_weights, CombineWeights::kProbs);
  EXPECT_EQ(traits.no_weight_gradient,
            "top_k = 1 with normalize = true gives the weight 1 whatever the router says");
  EXPECT_EQ(plain->traits().no_weight_gradient, "");
}

TEST(ReluRouterRules, CountsPenalizesAndGivesExpertsUp) {
  ReluRouter router(ReluRouterOptions(3, 4).experts_per_token(3));
  expect_drawn(*router, router->weight, 3);
  const auto traits = router->traits();
  EXPECT_TRUE(traits.penalizes);
  EXPECT_EQ(traits.combine_weights, CombineWeights::kLogits);
  EXPECT_EQ(traits.top_k, 0);
  const auto none = router->forward(torch::zeros({0, 3}), rules_training(1));
  EXPECT_EQ(none.penalty(none).item<double>(), 0);
  router->forward(rules_normal({5, 3}, 1), rules_training(1));
  EXPECT_EQ(router->step_load().pairs, 20);
  router->reset_parameters(tensor::make_generator(1));
  EXPECT_EQ(router->step_load().pairs, 0);
  EXPECT_EQ(router->step_load().assignments, 0);
  const double first = router->coefficient.item<double>();
  router->end_step({3, 4});  // just as many as are wanted: no more
  EXPECT_NEAR(router->coefficient.item<double>(), first / router->options.multiplier(), 1e-15);
  router->coefficient.fill_(1e-30);
  router->end_step({0, 4});
  EXPECT_EQ(router->coefficient.item<double>(), 1e-30);
  router->coefficient.fill_(1e30);
  router->end_step({4, 4});
  EXPECT_EQ(router->coefficient.item<double>(), 1e30);
  expect_rows_taken(*router, {3, 0, 1});
  EXPECT_EQ(router->options.experts_per_token(), 3);
  expect_rows_taken(*router, {0, 1});
  EXPECT_EQ(router->options.experts_per_token(), 2);
}

TEST(TaskRouterRules, ExtendsAllThatIsByExpertAndTakesExpertsTogether) {
  const auto noisy = [](int64_t experts) {
    return std::make_shared<LinearRouterImpl>(
        LinearRouterOptions(3, experts).noise(RouterNoise::kGaussian));
  };
  TaskRouters routers(std::vector<std::shared_ptr<RouterImpl>>{noisy(3), noisy(5)});
  EXPECT_EQ(routers->num_tasks(), 2);
  EXPECT_EQ(routers->active_task(), 0);
  EXPECT_EQ(routers->parameters().size(), 6U);
  const auto x = rules_normal({4, 3}, 1);
  const auto alone = routers->routers[0]->forward(x, rules_training(2));
  EXPECT_TRUE(alone.takes_all);
  routers->set_pool(5);
  const auto routing = routers->forward(x, rules_training(2));
  EXPECT_FALSE(routing.takes_all);
  const float out = -std::numeric_limits<float>::infinity();
  EXPECT_TRUE(torch::equal(routing.logits.slice(1, 0, 3), alone.logits));
  EXPECT_TRUE(torch::equal(routing.logits.slice(1, 3), torch::full({4, 2}, out)));
  EXPECT_TRUE(torch::equal(routing.clean_logits.slice(1, 0, 3), alone.clean_logits));
  EXPECT_TRUE(torch::equal(routing.clean_logits.slice(1, 3), torch::full({4, 2}, out)));
  EXPECT_TRUE(torch::equal(routing.noise_std.slice(1, 0, 3), alone.noise_std));
  EXPECT_TRUE(torch::equal(routing.noise_std.slice(1, 3), torch::zeros({4, 2})));
  EXPECT_TRUE(torch::equal(routing.probs.slice(1, 3), torch::zeros({4, 2})));
  routers->reset_parameters(tensor::make_generator(7));
  const auto first = routers->routers[1]->parameters()[0].detach().clone();
  routers->reset_parameters(tensor::make_generator(8));
  EXPECT_FALSE(torch::equal(routers->routers[1]->parameters()[0], first));
  routers->reset_parameters(tensor::make_generator(7));
  EXPECT_TRUE(torch::equal(routers->routers[1]->parameters()[0], first));
  TaskRouters equal(std::vector<std::shared_ptr<RouterImpl>>{noisy(4), noisy(4)});
  ExpertEdit edit(torch::tensor({3, 1}));
  equal->take_experts(edit);
  EXPECT_EQ(equal->num_experts(), 4);
  edit.commit();
  EXPECT_EQ(equal->num_experts(), 2);
  EXPECT_EQ(equal->forward(x, {}).num_experts(), 2);
}

TEST(RouterRules, AreMadeForTheirSite) {
  LayerSite site;
  site.input = {2, 3};
  site.num_experts = 4;
  site.previous_experts = 3;
  site.vocabulary_size = 9;
  const auto linear = std::dynamic_pointer_cast<LinearRouterImpl>(
      make_linear_router({{}, LinearRouterOptions().residual(true).top_k(2)}, site));
  EXPECT_EQ(linear->weight.sizes().vec(), (std::vector<int64_t>{4, 6}));
  EXPECT_EQ(linear->residual_weight.sizes().vec(), (std::vector<int64_t>{4, 3}));
  EXPECT_EQ(linear->options.top_k(), 2);
  const auto weight_of = [](const std::shared_ptr<RouterImpl>& router) {
    return std::dynamic_pointer_cast<ProjectionRouterImpl>(router)->weight.sizes().vec();
  };
  const std::vector<int64_t> wanted = {4, 6};
  EXPECT_EQ(weight_of(make_base_router({}, site)), wanted);
  const auto choice =
      make_expert_choice_router(ExpertChoiceRouterOptions().experts_per_token(3), site);
  EXPECT_EQ(weight_of(choice), wanted);
  EXPECT_EQ(std::dynamic_pointer_cast<ExpertChoiceRouterImpl>(choice)->options.experts_per_token(),
            3);
  const auto gshard = make_gshard_router(GshardRouterOptions().random_second(false), site);
  EXPECT_EQ(weight_of(gshard), wanted);
  EXPECT_FALSE(gshard->traits().adds_noise);
  const auto relu = make_relu_router(ReluRouterOptions().experts_per_token(3), site);
  EXPECT_EQ(weight_of(relu), wanted);
  EXPECT_EQ(std::dynamic_pointer_cast<ReluRouterImpl>(relu)->options.experts_per_token(), 3);
  const auto scored = make_scored_router(ScoredRouterOptions().top_k(3), site);
  EXPECT_EQ(weight_of(scored), wanted);
  EXPECT_EQ(scored->traits().top_k, 3);
  const auto hash =
      std::dynamic_pointer_cast<HashRouterImpl>(make_hash_router(HashRouterOptions(), site));
  EXPECT_EQ(hash->expert_of_token.size(0), 9);
  EXPECT_EQ(hash->num_experts(), 4);
  site.input = {1, 5, 7};
  LinearRouterConfig sums;
  sums.front.input = RouterInput::kPatchSum;
  const auto router = make_linear_router(sums, site);
  EXPECT_EQ(router->directions().sizes().vec(), (std::vector<int64_t>{4, 7}));
  RouterContext context;
  context.previous_logits = torch::zeros({2, 3});
  EXPECT_EQ(router->forward(torch::zeros({2, 1, 5, 7}), context).num_experts(), 4);
}

}  // namespace
}  // namespace moekit::nn
