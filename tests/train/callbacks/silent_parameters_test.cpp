#include "moekit/train/callbacks/silent_parameters.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include "moekit/core/error.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

/// Four named parameters, three steps an epoch. "used" always has a gradient, "late" in the last
/// step of an epoch alone, "zero" one of zeros, "unused" none.
class NetImpl : public torch::nn::Module {
 public:
  NetImpl() {
    for (const char* name : {"used", "late", "zero", "unused"}) {
      register_parameter(name, torch::ones({2}));
    }
  }
};

class FourParameters : public Problem {
 public:
  torch::nn::Module& module() override { return *net_; }
  int64_t total_steps() const override { return 9; }
  int64_t steps_per_epoch() const override { return 3; }
  int64_t samples(const StepKey&) const override { return 1; }
  StepResult forward(const StepKey& key) override {
    auto parameters = net_->named_parameters();
    StepResult result;
    result.loss = parameters["used"].sum() + 0 * parameters["zero"].sum();
    if (key.batch == 2) result.loss = result.loss + parameters["late"].sum();
    result.samples = 1;
    return result;
  }
  Json evaluate(const LoopState&) override { return nullptr; }
  Json finish(const LoopState&, const std::filesystem::path&) override { return Json::object(); }
  Json describe() override { return Json::object(); }
  void restore(const Json&, const std::string&) override {}
  std::unique_ptr<torch::optim::Optimizer> sgd() {
    return std::make_unique<torch::optim::SGD>(net_->parameters(), torch::optim::SGDOptions(0.1));
  }

 private:
  std::shared_ptr<NetImpl> net_ = std::make_shared<NetImpl>();
};

using Names = std::vector<std::string>;

/// What is reported, "epoch: names".
struct Log {
  std::vector<std::pair<int64_t, Names>> lines;
  SilentParameters::Report report() {
    return [this](const Names& names, int64_t epoch) { lines.emplace_back(epoch, names); };
  }
};

TEST(SilentParameters, NamesOnceWhatHasNoGradientInAWholeEpoch) {
  FourParameters problem;
  Log log;
  SilentParameters silence(log.report());
  Trainer trainer(problem, problem.sgd(), {}, {}, {&silence});
  trainer.run();
  ASSERT_EQ(log.lines.size(), 1U);
  EXPECT_EQ(log.lines[0].first, 1);
  EXPECT_EQ(log.lines[0].second, (Names{"zero", "unused"}));
  Json summary = Json::object();
  silence.on_finish(trainer, summary);
  EXPECT_EQ(summary["parameters_without_gradient"], Json(Names{"zero", "unused"}));
}

/// Calls a function after each step.
class AfterStep : public Callback {
 public:
  explicit AfterStep(std::function<void(Trainer&)> call) : call_(std::move(call)) {}
  std::string_view name() const override { return "after_step"; }
  void on_step(Trainer& trainer, const StepReport&) override { call_(trainer); }

 private:
  std::function<void(Trainer&)> call_;
};

TEST(SilentParameters, LeavesFrozenParametersAloneAndWritesNothingOfNone) {
  FourParameters problem;
  for (const char* name : {"zero", "unused"}) {
    problem.module().named_parameters()[name].requires_grad_(false);
  }
  Log log;
  SilentParameters silence(log.report());
  Trainer trainer(problem, problem.sgd(), {}, {}, {&silence});
  trainer.run();
  EXPECT_TRUE(log.lines.empty());
  Json summary = Json::object();
  silence.on_finish(trainer, summary);
  EXPECT_TRUE(summary.empty());
  EXPECT_TRUE(silence.state().empty());
}

TEST(SilentParameters, WhatIsFrozenOnTheWayIsNoLongerExpectedToLearn) {
  FourParameters problem;
  Log log;
  SilentParameters silence(log.report());
  AfterStep freeze([&](Trainer& trainer) {
    if (trainer.state.step == 1) {
      problem.module().named_parameters()["zero"].requires_grad_(false);
    }
  });
  Trainer trainer(problem, problem.sgd(), {}, {}, {&silence, &freeze});
  trainer.run();
  ASSERT_EQ(log.lines.size(), 1U);
  EXPECT_EQ(log.lines[0].second, Names{"unused"});
}

TEST(SilentParameters, GoesOnFromTheStateOfACheckpointInsideAnEpoch) {
  FourParameters problem;
  Log log;
  SilentParameters first(log.report());
  AfterStep stop([](Trainer& trainer) {
    if (trainer.state.step == 1) trainer.pause();
  });
  Trainer trainer(problem, problem.sgd(), {}, {}, {&first, &stop});
  EXPECT_FALSE(trainer.run());
  SilentParameters second(log.report());
  second.load_state(Json::parse(first.state().dump()), "state.json");
  Trainer again(problem, problem.sgd(), {}, {}, {&second});
  again.state = trainer.state;
  again.run();
  ASSERT_EQ(log.lines.size(), 1U);
  EXPECT_EQ(log.lines[0].first, 1);
  EXPECT_EQ(log.lines[0].second, (Names{"zero", "unused"}));
}

TEST(SilentParameters, JudgesNoEpochWhoseBeginningItDidNotSee) {
  // A run of two of an epoch's three steps would call "late" silent if the last were left out.
  FourParameters problem;
  Log log;
  SilentParameters silence(log.report());
  Trainer trainer(problem, problem.sgd(), {}, {}, {&silence});
  trainer.state.batch = 1;
  trainer.state.step = 1;
  trainer.run();
  ASSERT_EQ(log.lines.size(), 1U);
  EXPECT_EQ(log.lines[0].first, 2);
}

}  // namespace
}  // namespace moekit::train
