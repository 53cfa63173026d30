#include "moekit/train/trainer.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/data/sets/synthetic_clusters.h"
#include "moekit/train/augment.h"
#include "moekit/train/evaluate.h"

namespace moekit::train {
namespace {

/// A recipe that learns the generated clusters in a few seconds.
RunConfig small_recipe() {
  RunConfig config;
  config.data.set.select("synthetic-clusters");
  config.model.num_experts = 4;
  config.model.expert.kind = models::ExpertKind::kLinear;
  config.train.epochs = 5;
  config.train.batch_size = 100;
  config.train.lr = 0.01;
  return config;
}

struct Trained {
  explicit Trained(const RunConfig& config)
      : dataset(data::make_cluster_images({})),
        model(models::make_classifier(config.model, {1, 12, 12, 2})),
        trainer((model->reset_parameters(1, 2), config), model, dataset.train,
                dataset.normalization) {}
  data::ImageDataset dataset;
  std::shared_ptr<models::ClassifierImpl> model;
  Trainer trainer;
};

TEST(Trainer, AMixtureOfLinearExpertsLearnsWhatOneLinearExpertCannot) {
  RunConfig config = small_recipe();
  config.train.epochs = 30;
  Trained mixture(config);
  mixture.trainer.run({});
  config.model.kind = models::ModelKind::kSingle;
  Trained single(config);
  single.trainer.run({});
  const auto error = [](Trained& s) {
    return evaluate(*s.model, s.dataset.test, s.dataset.normalization).error;
  };
  // The classes of different clusters cancel for a linear map: about one in two is wrong.
  EXPECT_GT(error(single), 0.35);
  EXPECT_LT(error(mixture), 0.05);
}

TEST(Trainer, TheSameSeedGivesTheSameWeights) {
  Trained a(small_recipe());
  Trained b(small_recipe());
  a.trainer.run({});
  b.trainer.run({});
  for (const auto& item : a.model->named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), b.model->named_parameters()[item.key()])) << item.key();
  }
}

TEST(Trainer, EveryKindOfModelTakesAStep) {
  for (const char* set : {"model.form=stochastic", "model.form=pre_softmax",
                          "model.router.kind=attentive", "model.kind=sparse"}) {
    ConfigTree tree;
    tree.values = to_json(small_recipe());
    apply_override(tree, set);
    apply_override(tree, "model.expert.kind=mlp");
    apply_override(tree, "model.expert.intermediate_size=8");
    if (std::string(set).find("sparse") != std::string::npos) {
      apply_override(tree, "model.router.top_k=2");
      apply_override(tree, "model.capacity_factor=1.0");
      apply_override(tree, "model.num_shared_experts=1");
    }
    if (std::string(set).find("attentive") != std::string::npos) {
      apply_override(tree, "model.router.trunk={hidden=[8]}");
    }
    apply_override(tree, "train.epochs=1");
    RunConfig config;
    bind_config(tree, config);
    Trained setup(config);
    setup.trainer.run({});
    EXPECT_EQ(setup.trainer.state.step, 20) << set;
  }
}

TEST(Trainer, HooksRunInOrderAndCanStop) {
  Trained setup(small_recipe());
  std::string order;
  TrainerHooks hooks;
  hooks.before_optimizer = [&](Trainer&) { order += "b"; };
  hooks.after_optimizer = [&](Trainer&) { order += "a"; };
  hooks.on_step = [&](Trainer& t, double) {
    order += "s";
    return t.state.step < 2;
  };
  setup.trainer.run(hooks);
  EXPECT_EQ(order, "basbas");
}

TEST(Trainer, StopsAtANonFiniteLossNamingStepAndTensor) {
  Trained setup(small_recipe());
  TrainerHooks hooks;
  hooks.after_optimizer = [](Trainer& t) {
    if (t.state.step == 3) {
      const torch::NoGradGuard no_grad;
      t.model().parameters()[0].fill_(std::numeric_limits<float>::quiet_NaN());
    }
  };
  try {
    setup.trainer.run(hooks);
    FAIL();
  } catch (const NumericError& error) {
    EXPECT_NE(std::string(error.what()).find("step 5"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("mixture.router.weight"), std::string::npos)
        << error.what();
  }
}

TEST(MakeOptimizer, GivesParameterGroupsTheirOwnSettings) {
  RunConfig config = small_recipe();
  config.train.groups = {{"mixture.router.", 0.1, 0.5}};
  const auto model = models::make_classifier(config.model, {1, 12, 12, 2});
  const auto optimizer = make_optimizer(config.train, *model);
  ASSERT_EQ(optimizer->param_groups().size(), 2U);
  EXPECT_NEAR(optimizer->param_groups()[1].options().get_lr(), 0.001, 1e-12);
  EXPECT_EQ(optimizer->param_groups()[1].params().size(), 2U);
  config.train.groups[0].match = "nobody";
  EXPECT_THROW(make_optimizer(config.train, *model), ArgumentError);
}

TEST(ScheduleFactor, WarmsUpThenFollowsTheSchedule) {
  TrainConfig config;
  config.warmup_steps = 4;
  EXPECT_NEAR(schedule_factor(config, 0, 100), 0.25, 1e-12);
  EXPECT_EQ(schedule_factor(config, 4, 100), 1);
  config.schedule = Schedule::kLinear;
  EXPECT_NEAR(schedule_factor(config, 52, 100), 0.5, 1e-12);
  config.schedule = Schedule::kCosine;
  EXPECT_NEAR(schedule_factor(config, 52, 100), 0.5, 1e-12);
}

TEST(FlipAndCrop, IsAFunctionOfTheSeedAndKeepsThePixelValues) {
  const auto images =
      torch::arange(2 * 3 * 8 * 8).reshape({2, 3, 8, 8}).remainder(251).to(torch::kUInt8);
  EXPECT_TRUE(torch::equal(flip_and_crop(images, 5), flip_and_crop(images, 5)));
  EXPECT_FALSE(torch::equal(flip_and_crop(images, 5), flip_and_crop(images, 6)));
  EXPECT_EQ(flip_and_crop(images, 5).sizes(), images.sizes());
  EXPECT_THROW(flip_and_crop(images.slice(2, 0, 4), 1), ArgumentError);
}

}  // namespace
}  // namespace moekit::train
