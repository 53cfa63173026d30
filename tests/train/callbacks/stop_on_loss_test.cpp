#include "moekit/train/callbacks/stop_on_loss.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/optim/sgd.h>

#include "moekit/core/error.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

class OneWeight : public torch::nn::Module {
 public:
  OneWeight() { weight = register_parameter("weight", torch::zeros({1}, torch::kDouble)); }
  torch::Tensor weight;
};

/// An epoch is one step; its loss is the next of a list, and each update adds one to the weight.
class ListedLosses : public Problem {
 public:
  explicit ListedLosses(std::vector<double> losses) : losses_(std::move(losses)) {}
  torch::nn::Module& module() override { return *net_; }
  int64_t total_steps() const override { return static_cast<int64_t>(losses_.size()); }
  int64_t steps_per_epoch() const override { return 1; }
  int64_t samples(const StepKey&) const override { return 1; }
  StepResult forward(const StepKey& key) override {
    StepResult result;
    const auto moving = net_->weight.sum();
    result.loss = losses_.at(static_cast<size_t>(key.step)) - (moving - moving.detach());
    result.samples = 1;
    return result;
  }
  Json evaluate(const LoopState&) override { return nullptr; }
  Json finish(const LoopState&, const std::filesystem::path&) override { return Json::object(); }
  Json describe() override { return Json::object(); }
  void restore(const Json&, const std::string&) override {}

  /// How many updates were made until the run ended.
  int64_t updates_until_end(const StopOnLossOptions& options) {
    const auto stop = make_stop_on_loss(options, {});
    Trainer trainer(
        *this,
        std::make_unique<torch::optim::SGD>(net_->parameters(), torch::optim::SGDOptions(1.0)), {},
        {}, {stop.get()});
    trainer.run();
    stopped_early = trainer.state.stopped_early;
    return std::lround(net_->weight.item<double>());
  }
  bool stopped_early = false;

 private:
  std::vector<double> losses_;
  std::shared_ptr<OneWeight> net_ = std::make_shared<OneWeight>();
};

TEST(StopOnLoss, LooksAtTheLossAfterTheUpdate) {
  EXPECT_EQ(ListedLosses({3, 2, 1, 0.5}).updates_until_end({1.0, 0, 0}), 3);
  EXPECT_EQ(ListedLosses({3, 2, 2.5, 2.6, 1}).updates_until_end({0, 0.55, 0}), 4);
  EXPECT_EQ(ListedLosses({3, 2, 2.5, 2.6, 1}).updates_until_end({0, 0.55, 5}), 5);
}

TEST(StopOnLoss, AsReleasedANewMinimumNeverStopsAndTheLastUpdateIsNotMade) {
  StopOnLossOptions released{1.0, 0.5, 0, StopRule::kReleased};
  ListedLosses falling({3, 2, 0.9, 0.8});
  EXPECT_EQ(falling.updates_until_end(released), 4);  // below 1, but each a new minimum
  EXPECT_FALSE(falling.stopped_early);
  ListedLosses low({3, 2, 0.9, 0.95, 0.8});
  EXPECT_EQ(low.updates_until_end(released), 3);  // 0.95 is no minimum and below 1
  EXPECT_TRUE(low.stopped_early);
  EXPECT_EQ(ListedLosses({3, 2, 2.4, 2.6, 1}).updates_until_end(released), 3);
  EXPECT_EQ(ListedLosses({3, 2, 2, 2.5, 2.5}).updates_until_end(released), 5);  // 0.5 is not above
  released.stop_from_epoch = 4;
  EXPECT_EQ(ListedLosses({3, 2, 2.4, 2.6, 2.6}).updates_until_end(released), 4);
}

TEST(StopOnLoss, ARuleWithoutALimitIsRefused) {
  EXPECT_EQ(make_stop_on_loss({}, {}), nullptr);
  StopOnLossOptions options;
  EXPECT_NO_THROW(check_stop_on_loss(options, {}, "train"));
  options.stop_rule = StopRule::kReleased;
  EXPECT_THROW(check_stop_on_loss(options, {}, "train"), ArgumentError);
  options.stop_rise = 0.02;
  EXPECT_NO_THROW(check_stop_on_loss(options, {}, "train"));
}

}  // namespace
}  // namespace moekit::train
