#include "moekit/train/callbacks/usage_tracking.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

/// Three tokens a step are expert 0's, one is expert 1's; two stages of four steps.
class FixedRoutes : public Problem {
 public:
  torch::nn::Module& module() override { return *layer_; }
  int64_t total_steps() const override { return 8; }
  int64_t steps_per_epoch() const override { return 4; }
  Stage stage(int64_t step) const override { return {step < 4 ? 0 : 4, 4, 1}; }
  int64_t samples(const StepKey&) const override { return 4; }
  StepResult forward(const StepKey&) override {
    nn::RouterContext context;
    context.task_id = torch::tensor({0, 0, 1, 0}, torch::kLong);
    const auto x = torch::ones({4, 2});
    const auto output = layer_->forward_with_routing(x, context);
    StepResult result;
    result.loss = output.values.sum();
    result.samples = 4;
    result.layers = {{"moe", output.routing, x, 0}};
    return result;
  }
  void update(torch::optim::Optimizer*) override {}
  Json evaluate(const LoopState&) override { return nullptr; }
  Json finish(const LoopState&, const std::filesystem::path&) override { return Json::object(); }
  Json describe() override { return Json::object(); }
  void restore(const Json&, const std::string&) override {}

 private:
  nn::MoE layer_{std::make_shared<nn::OracleRouterImpl>(nn::OracleRouterOptions({{0}, {1}})),
                 std::make_shared<nn::LinearExpertsImpl>(nn::LinearExpertsOptions(2, 2, 2))};
};

UsageTrackingOptions on() {
  UsageTrackingOptions options;
  options.usage = true;
  return options;
}

TEST(UsageTracking, CountsAStageTheWholeRunAndTheLatestSteps) {
  FixedRoutes problem;
  const auto tracking = make_usage_tracking(on(), {});
  Trainer trainer(problem, nullptr, {}, {}, {tracking.get()});
  trainer.run();
  Json summary;
  tracking->on_finish(trainer, summary);
  const Json& usage = summary["usage"]["moe"];
  // The oracle asks both experts for every token, with weights 0 and 1.
  EXPECT_EQ(usage["task_hard"], Json({16.0, 16.0}));
  EXPECT_EQ(usage["task_soft"], Json({12.0, 4.0}));
  EXPECT_EQ(usage["since_merge_soft"], Json({24.0, 8.0}));
  double decayed = 0;
  for (int i = 0; i < 8; ++i) decayed = 0.99 * decayed + 3;
  EXPECT_NEAR(usage["exponential_soft"][0].get<double>(), decayed, 1e-9);
}

TEST(UsageTracking, GoesOnWhereACheckpointLeftIt) {
  FixedRoutes problem;
  const auto first = make_usage_tracking(on(), {});
  Trainer trainer(problem, nullptr, {}, {}, {first.get()});
  trainer.run();
  const auto second = make_usage_tracking(on(), {});
  second->load_state(first->state(), "state.json");
  EXPECT_EQ(second->state(), first->state());
  EXPECT_THROW(second->load_state({{"moe", {{"task_hard", {1}}}}}, "state.json"), FormatError);
}

TEST(UsageTracking, IsOffUnlessAskedForAndRefusesKeysWithoutEffect) {
  EXPECT_EQ(make_usage_tracking({}, {}), nullptr);
  UsageTrackingOptions decay_alone;
  decay_alone.decay = 0.5;
  EXPECT_THROW(check_usage_tracking(decay_alone, {}, "train"), ArgumentError);
  EXPECT_THROW(check_usage_tracking(on(), {}, "train"), ArgumentError);  // no routed layer
  auto still = on();
  still.decay = 1;
  CallbackSite site;
  site.layers.emplace_back();
  EXPECT_THROW(check_usage_tracking(still, site, "train"), ArgumentError);
  EXPECT_NO_THROW(check_usage_tracking(on(), site, "train"));
}

}  // namespace
}  // namespace moekit::train
