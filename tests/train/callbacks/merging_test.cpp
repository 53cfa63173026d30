#include "moekit/train/callbacks/merging.h"

#include <gtest/gtest.h>
#include <torch/optim/adam.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/tensor/generator.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

/// A sparse layer that learns to give zeros.
class Layer : public Problem {
 public:
  explicit Layer(int64_t experts = 4, int64_t top_k = 2)
      : moe_(std::make_shared<nn::LinearRouterImpl>(
                 nn::LinearRouterOptions(6, experts).top_k(top_k)),
             std::make_shared<nn::MlpExpertsImpl>(nn::MlpExpertsOptions(6, 8, experts))) {
    moe_->router->reset_parameters(tensor::make_generator(1));
    moe_->experts->reset_parameters(tensor::make_generator(2));
  }
  torch::nn::Module& module() override { return *moe_; }
  int64_t total_steps() const override { return 40; }
  int64_t steps_per_epoch() const override { return 10; }
  int64_t samples(const StepKey&) const override { return 16; }
  StepResult forward(const StepKey& key) override {
    const auto tokens = torch::empty({16, 6}).normal_(
        0, 1, tensor::make_generator(static_cast<uint64_t>(100 + key.step)));
    const auto output = moe_->forward_with_routing(tokens);
    StepResult result;
    result.loss = output.values.square().mean();
    result.samples = 16;
    result.layers.push_back({"", output.routing, tokens, 0});
    return result;
  }
  Json evaluate(const LoopState&) override { return nullptr; }
  Json finish(const LoopState&, const std::filesystem::path&) override { return Json::object(); }
  Json describe() override { return Json::object(); }
  void restore(const Json&, const std::string&) override {}

  CallbackSite site() {
    CallbackSite made;
    made.layers = nn::routed_layers(*moe_);
    return made;
  }
  std::unique_ptr<torch::optim::Optimizer> optimizer() {
    return std::make_unique<torch::optim::Adam>(moe_->parameters(),
                                                torch::optim::AdamOptions(0.01));
  }
  nn::MoE moe_;
};

MergingOptions every(int64_t period) {
  MergingOptions options;
  options.replacement = merge::Replacement::kMerge;
  options.period = period;
  return options;
}

Json merges_of(const MergingOptions& options) {
  Layer problem;
  const auto merging = make_merging(options, problem.site());
  Trainer trainer(problem, problem.optimizer(), {}, {}, {merging.get()});
  trainer.run();
  Json summary;
  merging->on_finish(trainer, summary);
  return summary["merges"];
}

std::vector<int64_t> steps_of(const Json& merges) {
  std::vector<int64_t> steps;
  for (const auto& merge : merges) steps.push_back(merge["step"].get<int64_t>());
  return steps;
}

TEST(Merging, EveryPeriodAfterWarmUpAndNotInTheLastOne) {
  EXPECT_EQ(steps_of(merges_of(every(8))), (std::vector<int64_t>{8, 16, 24, 32}));
  auto late = every(8);
  late.warm_up = 17;
  EXPECT_EQ(steps_of(merges_of(late)), (std::vector<int64_t>{24, 32}));
  auto never = every(8);
  never.thresholds.min_count = 1e6;
  EXPECT_TRUE(merges_of(never).empty());
  EXPECT_EQ(make_merging({}, {}), nullptr);
}

TEST(Merging, TellsWhoWasWrittenOverWhomAndByWhichCounts) {
  const Json merges = merges_of(every(10));
  ASSERT_EQ(merges.size(), 3U);
  for (const auto& merge : merges) {
    EXPECT_GE(merge["first_count"], merge["second_count"]);
    EXPECT_GE(merge["second_count"], merge["victim_count"]);
    // Ten steps of 16 tokens with two experts each since the last time.
    EXPECT_LE(merge["first_count"].get<double>(), 160);
    EXPECT_NE(merge["victim"], merge["first"]);
    EXPECT_NE(merge["victim"], merge["second"]);
  }
  auto of_task = every(10);
  of_task.window = merge::UsageWindow::kTask;
  EXPECT_GT(merges_of(of_task)[2]["first_count"].get<double>(), 160);
}

TEST(Merging, CountsItsPeriodsFromTheBeginningOfAStage) {
  /// Two tasks of 20 steps.
  class Stages : public Layer {
   public:
    Stage stage(int64_t step) const override { return {step < 20 ? 0 : 20, 20, 1}; }
  } problem;
  const auto merging = make_merging(every(8), problem.site());
  Trainer trainer(problem, problem.optimizer(), {}, {}, {merging.get()});
  trainer.run();
  Json summary;
  merging->on_finish(trainer, summary);
  // The 16th step of a task is within its last period.
  EXPECT_EQ(steps_of(summary["merges"]), (std::vector<int64_t>{8, 28}));
  // Of the task's own 8 steps, where the task is the window.
  auto of_task = every(8);
  of_task.window = merge::UsageWindow::kTask;
  Stages other;
  const auto second = make_merging(of_task, other.site());
  Trainer again(other, other.optimizer(), {}, {}, {second.get()});
  again.run();
  second->on_finish(again, summary);
  EXPECT_EQ(summary["merges"][1]["all_count"], 8 * 16 * 2);
}

TEST(Merging, TellsHowMuchTheMergedExpertWasUsedAfterwards) {
  for (const auto& merge : merges_of(every(10))) {
    EXPECT_EQ(merge["all_count"], 10 * 16 * 2);
    EXPECT_GE(merge["used_after"], 0);
    EXPECT_LE(merge["used_after"], 0.5);  // of two experts a token
  }
  // An expert that is as good as another takes tokens from it.
  EXPECT_GT(merges_of(every(10))[0]["used_after"], 0);
}

TEST(Merging, TheVictimHoldsTheMeanOfItsParentsAtThatStep) {
  Layer problem;
  const auto merging = make_merging(every(20), problem.site());
  /// Compares right after the step of the merge, before anything learns again.
  class Look : public Callback {
   public:
    explicit Look(Layer& layer) : layer_(layer) {}
    std::string_view name() const override { return "look"; }
    void on_step(Trainer& trainer, const StepReport&) override {
      if (trainer.state.step != 20) return;
      Json summary;
      trainer.callbacks()[0]->on_finish(trainer, summary);
      const auto& merge = summary["merges"][0];
      const auto up = layer_.moe_->experts->named_parameters()["up_proj"].detach();
      const auto row = [&](const char* who) { return up[merge[who].get<int64_t>()]; };
      equal = torch::equal(row("victim"), (row("first") + row("second")) / 2);
    }
    bool equal = false;

   private:
    Layer& layer_;
  } look(problem);
  Trainer trainer(problem, problem.optimizer(), {}, {}, {merging.get(), &look});
  trainer.run();
  EXPECT_TRUE(look.equal);
}

TEST(Merging, ARunThatGoesOnEndsInTheSameState) {
  const auto state_after = [](int64_t pause_at) {
    Layer problem;
    auto merging = make_merging(every(8), problem.site());
    class Pause : public Callback {
     public:
      explicit Pause(int64_t at) : at_(at) {}
      std::string_view name() const override { return "pause"; }
      void on_step(Trainer& trainer, const StepReport&) override {
        if (trainer.state.step == at_) trainer.pause();
      }

     private:
      int64_t at_;
    } pause(pause_at);
    Trainer trainer(problem, problem.optimizer(), {}, {}, {merging.get(), &pause});
    if (!trainer.run()) {
      const Json kept = Json::parse(merging->state().dump());
      merging = make_merging(every(8), problem.site());
      merging->load_state(kept, "state.json");
      Trainer again(problem, problem.optimizer(), {}, {}, {merging.get()});
      again.state = trainer.state;
      again.run();
    }
    return merging->state();
  };
  // The optimizer starts anew after the pause here, so that only the counts before it are equal.
  const Json paused = state_after(12);
  const Json whole = state_after(0);
  EXPECT_EQ(paused["merges"][0], whole["merges"][0]);
  EXPECT_EQ(steps_of(paused["merges"]), steps_of(whole["merges"]));
  Layer problem;
  EXPECT_THROW(make_merging(every(8), problem.site())->load_state({{"merges", 3}}, "state.json"),
               FormatError);
}

TEST(Merging, RefusesWhatCannotBeMergedAndKeysWithoutEffect) {
  const auto refused = [](const MergingOptions& options, Layer& problem, const char* wanted) {
    try {
      check_merging(options, problem.site(), "train");
      ADD_FAILURE() << "taken; wanted " << wanted;
    } catch (const ArgumentError& error) {
      EXPECT_NE(std::string(error.what()).find(wanted), std::string::npos) << error.what();
    }
  };
  Layer sound;
  EXPECT_NO_THROW(check_merging(every(5), sound.site(), "train"));
  EXPECT_NO_THROW(check_merging({}, {}, "train"));
  Layer two(2, 2);
  refused(every(5), two, "train.merge wants 3 experts or more; layer \"\" has 2");
  Layer all(4, 4);
  refused(every(5), all, "gives each token the same number of experts, 1..3");
  MergingOptions off;
  off.period = 5;
  refused(off, sound, "train.merge_period has no effect without train.merge");
  auto options = every(5);
  options.decay = 0.5;
  refused(options, sound, "train.merge_decay has no effect without train.merge_window");
  options.window = merge::UsageWindow::kExponential;
  for (const double decay : {-0.5, 0.0, 1.0}) {
    options.decay = decay;
    refused(options, sound, "train.merge_decay must be above 0 and below 1");
  }
  options = every(5);
  options.replacement = merge::Replacement::kCopyTop1;
  options.how.join.align = true;
  refused(options, sound, "train.merge_align has no effect");
  options.how.join.align = false;
  options.weights = ParentWeights::kUsage;
  refused(options, sound, "train.merge_weights has no effect");
  options = every(5);
  options.replacement = merge::Replacement::kReinitVictim;
  options.how.blend = 0.5;
  refused(options, sound, "train.merge_blend has no effect");
}

}  // namespace
}  // namespace moekit::train
