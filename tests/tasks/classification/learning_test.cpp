#include <gtest/gtest.h>

#include "moekit/tasks/classification/problem.h"

namespace moekit::classification {
namespace {

/// A recipe that learns the generated clusters in a few seconds.
Config small_recipe(const std::vector<std::string>& set) {
  ConfigTree tree = parse_toml(R"(
data = { name = "synthetic-clusters" }
model = { num_experts = 4, expert = { kind = "linear" } }
train = { epochs = 5, batch_size = 100, lr = 0.01 }
)",
                               "test");
  for (const auto& assignment : set) apply_override(tree, assignment);
  Config config;
  bind_config(tree, config);
  return config;
}

/// A problem trained to the end, without a run folder.
ClassificationProblem train_recipe(const std::vector<std::string>& set) {
  const auto config = small_recipe(set);
  ClassificationProblem problem(config, load_run_data(config, ""));
  train::Trainer trainer(problem, train::make_optimizer(config.train.loop, problem.module()),
                         train::trainer_options(config.train.loop, 1),
                         config.loss.make(nn::LossSite{nn::routed_layers(problem.module())}));
  trainer.run();
  return problem;
}

double error_of(ClassificationProblem& problem) {
  return evaluate(problem.classifier(), problem.data().test, problem.data().normalization).error;
}

TEST(Classification, AMixtureOfLinearExpertsLearnsWhatOneLinearExpertCannot) {
  auto mixture = train_recipe({"train.epochs=30"});
  auto single =
      train_recipe({"train.epochs=30", "model={kind=\"single\", expert={kind=\"linear\"}}"});
  // The classes of different clusters cancel for a linear map: about one in two is wrong.
  EXPECT_GT(error_of(single), 0.35);
  EXPECT_LT(error_of(mixture), 0.05);
}

TEST(Classification, TheSameSeedGivesTheSameWeights) {
  auto a = train_recipe({});
  auto b = train_recipe({});
  for (const auto& item : a.module().named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), b.module().named_parameters()[item.key()]))
        << item.key();
  }
}

TEST(Classification, EveryKindOfModelLearnsTheClusters) {
  const std::string mlp = "expert={kind=\"mlp\", intermediate_size=16}";
  for (const char* model :
       {"form=\"stochastic\"", "form=\"pre_softmax\"",
        "router={kind=\"attentive\", trunk={hidden=[16]}}",
        "kind=\"sparse\", num_shared_experts=1, capacity_factor=2.0, router={top_k=2}",
        "kind=\"sparse_mixture\", router={top_k=1, combine_weights=\"probs\", "
        "noise=\"gaussian\"}"}) {
    auto problem =
        train_recipe({"model={num_experts=4, " + mlp + ", " + model + "}", "train.epochs=20"});
    EXPECT_LT(error_of(problem), 0.2) << model;  // chance is 0.5
  }
}

}  // namespace
}  // namespace moekit::classification
