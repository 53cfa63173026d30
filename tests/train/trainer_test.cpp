#include "moekit/train/trainer.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/nn/loss_kinds.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/generator.h"
#include "moekit/train/config.h"
#include "moekit/train/optimizers/adam.h"

namespace moekit::train {
namespace {

/// Regression by a sparse layer: five steps of eight samples an epoch, thirteen in all.
class ToyProblem : public Problem {
 public:
  ToyProblem() {
    const auto generator = tensor::make_generator(3);
    layer_->router->reset_parameters(generator);
    layer_->experts->reset_parameters(generator);
    x_ = torch::empty({5, 8, 4}).normal_(0, 1, generator);
  }
  torch::nn::Module& module() override { return *layer_; }
  int64_t total_steps() const override { return 13; }
  int64_t steps_per_epoch() const override { return 5; }
  int64_t samples(const StepKey&) const override { return 8; }
  StepResult forward(const StepKey& key) override {
    const int64_t begin = 8 * key.part / key.parts;
    const int64_t end = 8 * (key.part + 1) / key.parts;
    const auto x = x_[key.batch].slice(0, begin, end);
    const auto output = layer_->forward_with_routing(x);
    StepResult result;
    result.loss = (output.values - x.abs()).square().mean();
    result.samples = x.size(0);
    result.layers = {{"", output.routing, x, 0}};
    result.sums = {{"positive", x.gt(0).sum().item<double>()}};
    forwards += 1;
    return result;
  }
  Json evaluate(const LoopState&) override { return nullptr; }
  Json finish(const LoopState&, const std::filesystem::path&) override { return Json::object(); }
  Json describe() override { return Json::object(); }
  void restore(const Json&, const std::string&) override {}
  std::unique_ptr<torch::optim::Optimizer> sgd() {
    return std::make_unique<torch::optim::SGD>(layer_->parameters(), torch::optim::SGDOptions(0.1));
  }
  std::vector<nn::AuxLoss> losses(const std::string& toml) {
    OptionSet<nn::LossKinds> options;
    bind_config(parse_toml(toml, "test"), options);
    return options.make(nn::LossSite{nn::routed_layers(*layer_)});
  }
  int64_t forwards = 0;

 private:
  nn::MoE layer_{std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(4, 3).top_k(2)),
                 std::make_shared<nn::LinearExpertsImpl>(nn::LinearExpertsOptions(4, 4, 3))};
  torch::Tensor x_;
};

/// Writes down when it is called.
class Diary : public Callback {
 public:
  explicit Diary(std::function<void(Trainer&)> on_step = {}) : on_step_(std::move(on_step)) {}
  std::string_view name() const override { return "diary"; }
  void before_optimizer(Trainer&, const StepReport&) override { pages += "b"; }
  void after_optimizer(Trainer&, const StepReport& report) override {
    pages += "a";
    EXPECT_EQ(report.samples, 8);
    EXPECT_EQ(report.layers.at(0).routing.num_tokens(), 8);
  }
  void on_step(Trainer& trainer, const StepReport&) override {
    pages += "s";
    if (on_step_) on_step_(trainer);
  }
  void on_epoch(Trainer& trainer) override {
    pages += concat("[", trainer.state.epoch, ":", trainer.state.seen, "]");
  }
  void between_epochs(Trainer& trainer) override {
    EXPECT_EQ(trainer.state.seen, 0);
    pages += "|";
  }
  std::string pages;

 private:
  std::function<void(Trainer&)> on_step_;
};

TEST(Trainer, CallsCallbacksInOrderAndLetsTheLastEpochBeShorter) {
  ToyProblem problem;
  Diary diary;
  Trainer trainer(problem, problem.sgd(), {}, {}, {&diary});
  EXPECT_TRUE(trainer.run());
  EXPECT_EQ(diary.pages, "basbasbasbasbas[1:40]|basbasbasbasbas[2:40]|basbasbas[3:24]|");
  EXPECT_EQ(trainer.state.step, 13);
}

TEST(Trainer, PausesGoesOnAndStopsEarly) {
  ToyProblem problem;
  Diary diary([](Trainer& t) {
    if (t.state.step == 2) t.pause();
    if (t.state.step == 4) t.stop_early();
  });
  Trainer trainer(problem, problem.sgd(), {}, {}, {&diary});
  EXPECT_FALSE(trainer.run());
  EXPECT_EQ(trainer.state.step, 2);
  EXPECT_TRUE(trainer.run());
  EXPECT_EQ(trainer.state.step, 4);
}

TEST(Trainer, StopsAtANonFiniteLossNamingStepAndTensor) {
  ToyProblem problem;
  Diary diary([&](Trainer& t) {
    const torch::NoGradGuard no_grad;
    if (t.state.step == 3) {
      problem.module().named_parameters()["router.weight"].fill_(
          std::numeric_limits<float>::quiet_NaN());
    }
  });
  Trainer trainer(problem, problem.sgd(), {}, {}, {&diary});
  try {
    trainer.run();
    FAIL();
  } catch (const NumericError& error) {
    EXPECT_NE(std::string(error.what()).find("step 4"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("router.weight"), std::string::npos) << error.what();
  }
}

TEST(Trainer, PartsOfABatchGiveTheGradientsOfTheWhole) {
  for (const char* losses : {"", "importance = 1.0", "balance = 1.0\nrouter_z = 0.1",
                             "entropy = -0.3", "similarity_different = 0.5"}) {
    ToyProblem whole;
    ToyProblem parts;
    Trainer a(whole, whole.sgd(), {}, whole.losses(losses));
    TrainerOptions three;
    three.accumulate = 3;
    Diary diary;  // checks that the report covers the whole batch
    Trainer b(parts, parts.sgd(), three, parts.losses(losses),
              losses[0] == '\0' ? std::vector<Callback*>{} : std::vector<Callback*>{&diary});
    a.run();
    b.run();
    for (const auto& item : whole.module().named_parameters()) {
      EXPECT_TRUE(
          torch::allclose(item.value(), parts.module().named_parameters()[item.key()], 1e-4, 1e-5))
          << losses << ": " << item.key();
    }
    EXPECT_NEAR(a.state.last_loss, b.state.last_loss, 1e-5);
    // Without losses on routing one pass is enough.
    EXPECT_EQ(parts.forwards, losses[0] == '\0' ? 3 * 13 : 6 * 13) << losses;
  }
}

TEST(Trainer, CountsSumsOfAnEpochOnceWhateverTheParts) {
  double sums[2] = {0, 0};
  for (const int64_t parts : {1, 4}) {
    ToyProblem problem;
    TrainerOptions options;
    options.accumulate = parts;
    Diary diary([&](Trainer& t) {
      if (t.state.step == 5) sums[parts > 1] = t.state.sums["positive"].get<double>();
    });
    Trainer trainer(problem, problem.sgd(), options, problem.losses("balance = 0.1"), {&diary});
    trainer.run();
  }
  EXPECT_GT(sums[0], 0);
  EXPECT_EQ(sums[0], sums[1]);
}

TEST(Trainer, WarmsUpThenFollowsTheSchedule) {
  ToyProblem problem;
  auto optimizer = problem.sgd();
  auto* groups = &optimizer->param_groups();
  std::vector<double> rates;
  Diary diary([&](Trainer&) { rates.push_back(groups->at(0).options().get_lr()); });
  TrainerOptions options;
  options.warmup_steps = 3;
  options.schedule = Choice<ScheduleKinds>("linear").make(ScheduleSite{});
  Trainer trainer(problem, std::move(optimizer), options, {}, {&diary});
  trainer.run();
  EXPECT_NEAR(rates[0], 0.1 / 3, 1e-12);
  EXPECT_NEAR(rates[2], 0.1, 1e-12);
  EXPECT_NEAR(rates[3], 0.1, 1e-12);        // none of the ten steps after warm-up is done
  EXPECT_NEAR(rates[8], 0.1 * 0.5, 1e-12);  // five of them
}

TEST(Trainer, BeginsScheduleAndOptimizerAnewWithEveryStage) {
  /// Six steps, then seven at twice the rate.
  class Staged : public ToyProblem {
   public:
    Stage stage(int64_t step) const override { return step < 6 ? Stage{0, 6, 1} : Stage{6, 7, 2}; }
  } problem;
  auto optimizer = std::make_unique<torch::optim::Adam>(problem.module().parameters(),
                                                        torch::optim::AdamOptions(0.1));
  auto* held = optimizer.get();
  std::vector<double> rates;
  std::vector<size_t> remembered;
  class Look : public Callback {
   public:
    explicit Look(std::function<void()> look) : look_(std::move(look)) {}
    std::string_view name() const override { return "look"; }
    void before_optimizer(Trainer&, const StepReport&) override { look_(); }

   private:
    std::function<void()> look_;
  } look([&] {
    rates.push_back(held->param_groups()[0].options().get_lr());
    remembered.push_back(held->state().size());
  });
  TrainerOptions options;
  options.warmup_steps = 2;
  options.schedule = Choice<ScheduleKinds>("linear").make(ScheduleSite{});
  Trainer trainer(problem, std::move(optimizer), options, {}, {&look});
  trainer.run();
  EXPECT_NEAR(rates[0], 0.05, 1e-12);
  EXPECT_NEAR(rates[2], 0.1, 1e-12);
  EXPECT_NEAR(rates[4], 0.1 * 2 / 4, 1e-12);
  EXPECT_NEAR(rates[6], 0.2 / 2, 1e-12);
  EXPECT_NEAR(rates[8], 0.2, 1e-12);
  EXPECT_NEAR(rates[9], 0.2 * 4 / 5, 1e-12);
  EXPECT_GT(remembered[5], 0U);
  EXPECT_EQ(remembered[6], 0U);
  EXPECT_GT(remembered[7], 0U);
}

TEST(ScheduleKinds, AreOneAtTheStartAndFallAsTheySay) {
  const auto at = [](const char* name, double done) {
    return Choice<ScheduleKinds>(name).make(ScheduleSite{})(done);
  };
  EXPECT_EQ(at("constant", 0.9), 1);
  EXPECT_NEAR(at("linear", 0.25), 0.75, 1e-12);
  EXPECT_NEAR(at("two_stage", 0), 1, 1e-12);
  EXPECT_NEAR(at("two_stage", 0.4), 0.6, 1e-12);
  EXPECT_NEAR(at("two_stage", 0.5), 0.5 * 2 / 3, 1e-12);
  EXPECT_NEAR(at("two_stage", 0.9), 0.1 * 2 / 3, 1e-12);
  EXPECT_NEAR(at("cosine", 0), 1, 1e-12);
  EXPECT_NEAR(at("cosine", 1.0 / 3), 0.75, 1e-12);
  EXPECT_NEAR(at("cosine", 1), 0, 1e-12);
}

TEST(MakeOptimizer, GivesParameterGroupsTheirOwnSettings) {
  ToyProblem problem;
  TrainConfig config;
  config.groups = {{"router.", 0.1, 0.5, false}};
  const auto optimizer = make_optimizer(config, problem.module());
  ASSERT_EQ(optimizer->param_groups().size(), 2U);
  EXPECT_NEAR(optimizer->param_groups()[1].options().get_lr(), 1e-4, 1e-12);
  EXPECT_EQ(optimizer->param_groups()[1].params().size(), 2U);
  config.groups[0].match = "*weight";
  EXPECT_EQ(make_optimizer(config, problem.module())->param_groups()[1].params().size(), 2U);
  config.groups[0].match = "nobody";
  EXPECT_THROW(make_optimizer(config, problem.module()), ArgumentError);
  config.groups[0] = {"experts.", 1, 0, true};
  EXPECT_THROW(make_optimizer(config, problem.module()), ArgumentError);  // adam normalises none
  config.optimizer.select("normalized_gd");
  EXPECT_NE(make_optimizer(config, problem.module()), nullptr);
  config.groups[0].normalize = false;
  EXPECT_THROW(make_optimizer(config, problem.module()), ArgumentError);
}

TEST(MakeOptimizer, HoldsNumbersThatWereFilledInCodeAgainstTheirRules) {
  ToyProblem problem;
  const auto refusal = [&](const std::function<void(TrainConfig&)>& change) -> std::string {
    TrainConfig config;
    change(config);
    try {
      make_optimizer(config, problem.module());
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "made";
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(refusal([](TrainConfig&) {}), "made");
  EXPECT_EQ(refusal([&](TrainConfig& c) { c.lr = nan; }),
            "train.lr must be a finite number; got nan");
  EXPECT_EQ(refusal([&](TrainConfig& c) {
              c.groups = {{"router.", -1, 0, false}};
            }),
            "train.groups[0].lr_scale must be at least 0; got -1");
  EXPECT_EQ(refusal([&](TrainConfig& c) {
              c.groups = {{"router.", 1, nan, false}};
            }),
            "train.groups[0].weight_decay must be a finite number; got nan");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.optimizer.as<AdamConfig>().beta1 = 2; }),
            "train.beta1 must be below 1; got 2");
}

TEST(Trainer, RefusesALimitOfTheGradientThatIsNone) {
  for (const double limit :
       {-1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    ToyProblem problem;
    TrainerOptions options;
    options.clip_norm = limit;
    EXPECT_THROW(Trainer(problem, problem.sgd(), options, {}), ArgumentError);
  }
}

TEST(Trainer, FrozenExpertsCountInNoNormAndRest) {
  ToyProblem problem;
  TrainConfig config;
  config.lr = 0.1;
  const auto layer = nn::routed_layers(problem.module()).front();
  nn::freeze_experts(layer, {1});
  const auto before = problem.module().named_parameters()["experts.weight"].detach().clone();
  double norm = 0;
  class Norm : public Callback {
   public:
    Norm(torch::Tensor weight, double& rest) : weight_(std::move(weight)), rest_(rest) {}
    std::string_view name() const override { return "norm"; }
    void before_optimizer(Trainer&, const StepReport&) override {
      rest_ = std::max(rest_, weight_.grad()[1].abs().max().item<double>());
    }
    torch::Tensor weight_;
    double& rest_;
  } callback(problem.module().named_parameters()["experts.weight"], norm);
  Trainer trainer(problem, make_optimizer(config, problem.module()), {}, {}, {&callback});
  trainer.run();
  const auto after = problem.module().named_parameters()["experts.weight"];
  EXPECT_EQ(norm, 0);
  EXPECT_TRUE(torch::equal(before[1], after[1]));
  EXPECT_FALSE(torch::equal(before[0], after[0]));
}

}  // namespace
}  // namespace moekit::train
