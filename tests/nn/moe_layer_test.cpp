#include "moekit/nn/moe_layer.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <map>

#include "moekit/core/error.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

MoE make_layer(int64_t top_k, double capacity = 0, bool shared = false) {
  torch::manual_seed(3);
  // Probabilities: renormalised, the weight of one choice would be 1 and train no router.
  return MoE(std::make_shared<LinearRouterImpl>(
                 LinearRouterOptions(6, 4).top_k(top_k).combine_weights(CombineWeights::kProbs)),
             std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4)),
             MoEOptions().capacity_factor(capacity),
             shared ? std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 1)) : nullptr);
}

TEST(MoE, EqualsTheWeightedSumOfTheChosenExperts) {
  for (const int64_t k : {1, 2, 4}) {
    auto layer = make_layer(k, 0, true);
    const auto x = torch::randn({10, 6});
    const auto output = layer->forward_with_routing(x);
    const auto all = layer->experts->forward_all(x).values;
    auto want = layer->shared_experts->forward_all(x).values[0].clone();
    for (int64_t n = 0; n < 10; ++n) {
      for (int64_t c = 0; c < k; ++c) {
        const auto e = output.routing.expert_index[n][c].item<int64_t>();
        want[n] += output.routing.weight[n * k + c] * all[e][n];
      }
    }
    EXPECT_TRUE(torch::allclose(output.values, want, 1e-5, 1e-5)) << k;
  }
}

TEST(MoE, CountsWhatItDropsBeyondTheCapacity) {
  auto layer = make_layer(1, 0.5);
  const auto output = layer->forward_with_routing(torch::randn({16, 6}));
  int64_t kept = 0;
  for (int64_t e = 0; e < 4; ++e) {
    EXPECT_LE(output.plan.count(e), 2);
    kept += output.plan.count(e);
  }
  EXPECT_EQ(kept + output.plan.num_dropped(), 16);
  EXPECT_GT(output.plan.num_dropped(), 0);
}

/// Expert choice: every expert takes the `take` tokens that score highest with it, so that a token
/// has none, one or many experts.
class ExpertChoiceImpl : public Cloneable<ExpertChoiceImpl, RouterImpl> {
 public:
  ExpertChoiceImpl(int64_t hidden_size, int64_t num_experts, int64_t take)
      : size_(hidden_size), experts_(num_experts), take_(take) {
    reset();
  }
  void reset() override { weight_ = register_parameter("weight", torch::randn({experts_, size_})); }
  void reset_parameters(const at::Generator&) override {}
  int64_t num_experts() const override { return experts_; }
  Routing forward(const torch::Tensor& tokens, const RouterContext&) override {
    const auto logits = torch::linear(tokens, weight_);
    const auto probs = torch::softmax(logits, 1);
    const auto token = std::get<1>(probs.t().topk(take_, 1)).flatten();
    const auto expert = torch::arange(experts_, torch::kLong).repeat_interleave(take_);
    return route_assignments(logits, token, expert, probs.index({token, expert}));
  }
  void take_experts(ExpertEdit&) override {}

 private:
  int64_t size_, experts_, take_;
  torch::Tensor weight_;
};

TEST(MoE, RunsARouterWhoseTokensHaveNoneOneOrManyExperts) {
  torch::manual_seed(5);
  for (const bool fused : {true, false}) {
    MoE layer(std::make_shared<ExpertChoiceImpl>(6, 4, 3),
              std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4)),
              MoEOptions().fused(fused));
    const auto x = torch::randn({7, 6});
    const auto output = layer->forward_with_routing(x);
    const auto all = layer->experts->forward_all(x).values;
    auto want = torch::zeros({7, 6});
    for (int64_t a = 0; a < 12; ++a) {
      const auto n = output.routing.token[a].item<int64_t>();
      want[n] += output.routing.weight[a] * all[output.routing.expert[a].item<int64_t>()][n];
    }
    EXPECT_TRUE(torch::allclose(output.values, want, 1e-5, 1e-5)) << fused;
    for (int64_t e = 0; e < 4; ++e) EXPECT_EQ(output.plan.count(e), 3);
    const auto chosen = torch::bincount(output.routing.token, {}, 7);
    EXPECT_GT(chosen.max().item<int64_t>(), 1);
    output.values.square().sum().backward();
    // By finite differences: the weight's gradient reaches the router through the flat list.
    torch::Tensor weight = layer->router->named_parameters()["weight"];
    const double got = weight.grad()[1][2].item<double>();
    const torch::NoGradGuard no_grad;
    const auto loss_at = [&](double step) {
      weight[1][2] += step;
      const double loss = layer->forward(x).square().sum().item<double>();
      weight[1][2] -= step;
      return loss;
    };
    EXPECT_NEAR(got, (loss_at(1e-3) - loss_at(-1e-3)) / 2e-3, 2e-2 * std::abs(got) + 2e-3);
  }
}

TEST(MoE, LeavesMaskedTokensOut) {
  for (const int64_t k : {1, 2, 4}) {
    auto layer = make_layer(k, k == 1 ? 1.0 : 0.0, true);
    const auto x = torch::randn({10, 6});
    RouterContext context;
    context.mask = torch::ones({10}, torch::kBool);
    context.mask[3] = false;
    context.mask[9] = false;
    const auto rows = torch::tensor({0, 1, 2, 4, 5, 6, 7, 8}, torch::kLong);
    auto masked_x = x.clone();
    masked_x[3] = std::numeric_limits<float>::quiet_NaN();  // may hold anything
    const auto output = layer->forward_with_routing(masked_x, context);
    const auto alone = layer->forward_with_routing(x.index_select(0, rows));
    EXPECT_TRUE(torch::equal(output.values.index_select(0, rows), alone.values)) << k;
    EXPECT_EQ(output.values[3].abs().sum().item<float>(), 0.0F);
    EXPECT_EQ(output.values[9].abs().sum().item<float>(), 0.0F);
    EXPECT_TRUE(torch::equal(output.routing.rows, rows));
    EXPECT_EQ(output.routing.num_tokens(), 8);
    EXPECT_EQ(output.plan.num_dropped(), alone.plan.num_dropped());
  }
  auto layer = make_layer(2);
  RouterContext context;
  context.mask = torch::ones({3}, torch::kBool);
  EXPECT_THROW(layer->forward_with_routing(torch::randn({10, 6}), context), ArgumentError);
  context.mask = torch::ones({10});
  EXPECT_THROW(layer->forward_with_routing(torch::randn({10, 6}), context), ArgumentError);
  context.mask = torch::zeros({10}, torch::kBool);
  const auto none = layer->forward_with_routing(torch::randn({10, 6}), context);
  EXPECT_EQ(none.values.sizes(), (std::vector<int64_t>{10, 6}));
  EXPECT_EQ(none.values.abs().sum().item<float>(), 0.0F);
}

TEST(MoE, TakesBatchesOfSequencesAsTheirTokensOneAfterTheOther) {
  auto layer = make_layer(2, 0, true);
  const auto x = torch::randn({2, 5, 6});
  const auto flat = layer->forward_with_routing(x.flatten(0, 1));
  const auto output = layer->forward_with_routing(x);
  EXPECT_EQ(output.values.sizes(), (std::vector<int64_t>{2, 5, 6}));
  EXPECT_TRUE(torch::equal(output.values.flatten(0, 1), flat.values));
  RouterContext context;
  context.mask = torch::ones({2, 5}, torch::kBool);
  context.mask[1][4] = false;
  const auto padded = layer->forward_with_routing(x, context);
  EXPECT_EQ(padded.values[1][4].abs().sum().item<float>(), 0.0F);
  EXPECT_TRUE(torch::allclose(padded.values[0], output.values[0], 1e-5, 1e-6));
  EXPECT_EQ(padded.routing.num_tokens(), 9);
}

TEST(MoE, RunsOnTheRuntimeItIsGiven) {
  const auto own = std::make_shared<Runtime>(2);
  auto layer = make_layer(2);
  const auto x = torch::randn({10, 6});
  const auto want = layer->forward(x);
  layer->options.runtime(own);
  EXPECT_TRUE(torch::equal(layer->forward(x), want));  // the same for any number of threads
  int threads = 0;
  own->run([&](const kernels::Execution& execution) { threads = execution.pool->num_threads(); });
  EXPECT_EQ(threads, 2);
  EXPECT_THROW(Runtime(-1), ArgumentError);
}

TEST(MoE, FitsIntoSequentialAndTakesNoTokens) {
  auto layer = make_layer(2);
  torch::nn::Sequential net(torch::nn::Linear(3, 6), layer, torch::nn::Linear(6, 2));
  EXPECT_EQ(net->forward(torch::randn({5, 3})).sizes(), (std::vector<int64_t>{5, 2}));
  EXPECT_EQ(layer->forward(torch::zeros({0, 6})).size(0), 0);
}

TEST(MoE, LearnsThroughTheRouterToo) {
  auto layer = make_layer(2);
  layer->forward(torch::randn({10, 6})).square().sum().backward();
  EXPECT_GT(layer->router->parameters()[0].grad().abs().sum().item<float>(), 0);
}

TEST(MoE, RunsAllExpertsForARouterThatNeedsTheirFeatures) {
  MoE layer(std::make_shared<AttentiveRouterImpl>(
                AttentiveRouterOptions(8, 4).top_k(1).combine_weights(CombineWeights::kProbs),
                torch::nn::AnyModule(torch::nn::Linear(6, 8))),
            std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4)));
  EXPECT_EQ(layer->forward(torch::randn({3, 6})).sizes(), (std::vector<int64_t>{3, 6}));
}

TEST(MoE, RefusesPartsThatDoNotFit) {
  EXPECT_THROW(MoE(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 3)),
                   std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4))),
               ArgumentError);
  EXPECT_THROW(make_layer(1, -1), ArgumentError);
}

MoE around(const LinearRouterOptions& options) {
  return MoE(std::make_shared<LinearRouterImpl>(options),
             std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, options.num_experts())));
}

TEST(MoE, RefusesARouterThatItsOutputCannotTrain) {
  const auto message = [](const LinearRouterOptions& options) -> std::string {
    try {
      around(options);
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  };
  const auto top1 = LinearRouterOptions(6, 4).top_k(1);
  EXPECT_NE(message(top1).find("top_k = 1 with combine_weights = \"renormalized\""),
            std::string::npos)
      << message(top1);
  EXPECT_NE(message(LinearRouterOptions(6, 1)).find("one expert"), std::string::npos);
  // Where there is a gradient, the option is untrue.
  for (auto good : {LinearRouterOptions(top1).top_k(2), LinearRouterOptions(top1).top_k(0),
                    LinearRouterOptions(top1).combine_weights(CombineWeights::kProbs),
                    LinearRouterOptions(6, 1).combine_weights(CombineWeights::kLogits)}) {
    EXPECT_EQ(message(good), "");
    EXPECT_NE(message(good.aux_only(true)).find("aux_only"), std::string::npos);
  }
  auto layer = around(LinearRouterOptions(top1).aux_only(true));
  layer->forward(torch::randn({10, 6})).square().sum().backward();
  for (const auto& p : layer->router->parameters()) {
    EXPECT_EQ(p.grad().abs().sum().item<float>(), 0);  // what the option says
  }
}

TEST(MoE, SendsTokensWithEqualLogitsToTheFirstExpertsFusedAndNot) {
  for (const bool fused : {true, false}) {
    auto layer = around(LinearRouterOptions(6, 40).top_k(3).init(RouterInit::kZero));
    layer->options.fused(fused);
    const auto x = torch::randn({5, 6});
    const auto output = layer->forward_with_routing(x);
    for (int64_t e = 0; e < 40; ++e) EXPECT_EQ(output.plan.count(e), e < 3 ? 5 : 0) << e;
    const auto first = layer->experts->forward_all(x).values.slice(0, 0, 3);
    EXPECT_TRUE(torch::allclose(output.values, first.mean(0), 1e-5, 1e-5));
  }
}

TEST(MoE, SaysWhichSequenceEachTokenIsOf) {
  auto layer = make_layer(2);
  EXPECT_FALSE(layer->forward_with_routing(torch::randn({4, 6})).routing.sequence.defined());
  RouterContext context;
  context.mask = torch::tensor({{true, false, true}, {false, true, true}});
  const auto routing = layer->forward_with_routing(torch::randn({2, 3, 6}), context).routing;
  EXPECT_TRUE(torch::equal(routing.sequence, torch::tensor({0, 0, 1, 1}, torch::kLong)));
}

TEST(MoE, GivesItsRoutedTokensAndAPlanWhereItHasOne) {
  for (const bool fused : {true, false}) {
    auto layer = make_layer(4);
    layer->options.fused(fused);
    const auto x = torch::randn({2, 5, 6});
    RouterContext context;
    context.mask = torch::ones({2, 5}, torch::kBool);
    context.mask[0][2] = false;
    const auto output = layer->forward_with_routing(x, context);
    const auto rows = torch::tensor({0, 1, 3, 4, 5, 6, 7, 8, 9}, torch::kLong);
    EXPECT_TRUE(torch::equal(output.tokens, x.flatten(0, 1).index_select(0, rows)));
    EXPECT_TRUE(torch::equal(output.routing.rows, rows));
    // All experts on all tokens need no plan, unless the kernel or a capacity wants one.
    EXPECT_EQ(output.plan.offsets.empty(), !fused);
    layer->options.capacity_factor(0.5);
    const auto dropping = layer->forward_with_routing(x, context);
    EXPECT_GT(dropping.plan.num_dropped(), 0);
    EXPECT_FALSE(layer->forward_with_routing(x).routing.rows.defined());
    EXPECT_TRUE(torch::equal(layer->outputs_of(x, context), dropping.values));
  }
}

TEST(MoE, AddsAllSharedExpertsAndKeepsThemInAClone) {
  torch::manual_seed(4);
  for (const bool fused : {true, false}) {
    MoE layer(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4).top_k(2)),
              std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4).output_size(3)),
              MoEOptions().fused(fused),
              std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 5, 3).output_size(3)));
    const auto x = torch::randn({7, 6});
    const auto shared = layer->shared_experts->forward_all(x).values;
    const auto values = layer->forward(x);
    auto alone = std::dynamic_pointer_cast<MoEImpl>(layer->clone());
    EXPECT_TRUE(torch::equal(alone->forward(x), values));
    EXPECT_EQ(alone->named_parameters().keys(), layer->named_parameters().keys());
    alone->shared_experts = nullptr;
    EXPECT_TRUE(
        torch::allclose(values, alone->forward(x) + shared[0] + shared[1] + shared[2], 1e-5, 1e-6));
    auto copy = std::dynamic_pointer_cast<MoEImpl>(layer->clone());
    const torch::NoGradGuard no_grad;
    for (auto& parameter : copy->parameters()) parameter.zero_();
    EXPECT_TRUE(torch::equal(layer->forward(x), values));
    EXPECT_EQ(copy->forward(x).abs().sum().item<float>(), 0);
  }
}

TEST(MoE, DrawsNoiseOfTheGivenGeneratorInTrainingAlone) {
  torch::manual_seed(5);
  MoE layer(std::make_shared<LinearRouterImpl>(
                LinearRouterOptions(6, 4).top_k(2).noise(RouterNoise::kGaussian)),
            std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4)));
  const auto x = torch::randn({7, 6});
  const auto logits = [&](uint64_t seed) {
    RouterContext context;
    context.generator = at::detail::createCPUGenerator(seed);
    return layer->forward_with_routing(x, context).routing.logits;
  };
  EXPECT_TRUE(torch::equal(logits(1), logits(1)));
  EXPECT_FALSE(torch::equal(logits(1), logits(2)));
  layer->eval();
  EXPECT_TRUE(torch::equal(logits(1), logits(2)));
}

TEST(MoE, RunsExpertsOnceForARouterThatTakesTheirFeatures) {
  torch::manual_seed(6);
  for (const int64_t top_k : {0, 2}) {
    MoE layer(std::make_shared<AttentiveRouterImpl>(AttentiveRouterOptions(8, 4).top_k(top_k),
                                                    torch::nn::AnyModule(torch::nn::Linear(6, 8))),
              std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4)));
    const auto x = torch::randn({7, 6});
    const tensor::OperationCounter counter;
    const auto output = layer->forward_with_routing(x);
    std::map<std::string, double> parts(counter.parts().begin(), counter.parts().end());
    // All experts' two matrices; of the two chosen ones again.
    const double of_all = 2.0 * 7 * 4 * 96;
    EXPECT_EQ(parts.at("experts"), of_all + (top_k == 2 ? of_all / 2 : 0));
    const auto all = layer->experts->forward_all(x).values;
    auto want = torch::zeros({7, 6});
    for (int64_t a = 0; a < output.routing.num_assignments(); ++a) {
      const auto n = output.routing.token[a].item<int64_t>();
      want[n] += output.routing.weight[a] * all[output.routing.expert[a].item<int64_t>()][n];
    }
    EXPECT_TRUE(torch::allclose(output.values, want, 1e-4, 1e-5));
  }
}

}  // namespace
}  // namespace moekit::nn
