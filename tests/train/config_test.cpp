#include "moekit/train/config.h"

#include <gtest/gtest.h>

namespace moekit::train {
namespace {

const models::InputShape kInput{1, 12, 12, 2};

std::string error_of(const std::vector<std::string>& set) {
  try {
    ConfigTree tree;
    for (const auto& assignment : set) apply_override(tree, assignment);
    RunConfig config;
    bind_config(tree, config);
    validate(config);
    models::validate(config.model, kInput);
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "no error";
}

TEST(RunConfig, RefusesImpossibleValuesWithKeyWantedAndGot) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"model.router.top_k=9"}, "model.router.top_k must be 0 (all) or 1..5"},
      {{"model.num_experts=0"}, "model.num_experts must be at least 1; got 0"},
      {{"model.form=\"top_k\""}, "wants model.router.top_k in 1..4; got 0"},
      {{"model.router.top_k=2"}, "wants model.form = \"top_k\""},
      {{"model.router.kind=\"attentive\"", "model.router.trunk={hidden=[16]}"},
       "wants equal h: the experts' hidden vectors have 32, the router's 16"},
      {{"model.router.kind=\"attentive\"", "model.expert.kind=\"linear\""}, "no hidden vector"},
      {{"model.router.kind=\"oracle\"", "model.num_experts=2", "model.router.groups=[[0],[0]]"},
       "label 0 is in two groups"},
      {{"model.router.kind=\"oracle\"", "model.num_experts=2", "model.router.groups=[[0],[]]"},
       "label 1 is in no group"},
      {{"model.router.kind=\"oracle\"", "model.num_experts=2", "model.router.groups=[[0],[7]]"},
       "label 7"},
      {{"model.expert.net={conv=[{channels=1},{channels=1},{channels=1}],hidden=[3]}"},
       "leaves no pixel"},
      {{"model.kind=\"sparse\""}, "takes mlp or linear"},
      {{"model.capacity_factor=1.0"}, "belongs to kinds \"sparse\""},
      {{"model.output_loss=\"double_softmax\""}, "belongs to kind = \"sparse_mixture\""},
      {{"model.router.input=\"patch_sum\"", "model.router.patch_size=5",
        "model.router.trunk.hidden=[]", "model.router.trunk.conv=[]"},
       "must divide 12x12; got 5"},
      {{"model.expert.kind=\"patch\"", "model.expert.activation=\"swiglu\""}, "gated"},
      {{"model.expert.activation=\"quartic\""}, "cubic"},
      {{"train.optimizer=\"normalized_gd\""}, "belong together"},
      {{"model.router.noise=\"uniform\"", "model.router.noise_scale=0"},
       "noise_scale must be positive with model.router.noise = \"uniform\""},
      {{"train.noisy_test=true"}, "wants a model.router.noise"},
      {{"train.evaluate_every=0"}, "train.evaluate_every must be at least 1; got 0"},
      {{"train.lr=0"}, "train.lr must be positive; got 0"},
      {{"train.epochs=-1"}, "train.epochs must be at least 0; got -1"},
      {{"train.batch_size=0"}, "train.batch_size must be at least 1; got 0"},
      {{"train.momentum=0.9"}, "wants train.optimizer = \"sgd\""},
      {{"train.patience=3"}, "wants data.validation > 0"},
      {{"threads=0"}, "threads must be at least 1; got 0"},
      {{"loss.load=0.1"}, "wants model.router.noise = \"gaussian\""},
      {{"loss.importance=0.1", "model.kind=\"single\""}, "a single model has no router"},
      {{"init.router_from=\"a\"", "init.trunk_from=\"b\""}, "only one can be given"},
  };
  for (const auto& [set, want] : cases) {
    EXPECT_NE(error_of(set).find(want), std::string::npos) << set[0] << ": " << error_of(set);
  }
}

TEST(RunConfig, TheDefaultsAreValid) { EXPECT_EQ(error_of({}), "no error"); }

TEST(RunConfig, ResolvedTomlReadsBackToTheSameRecipe) {
  RunConfig config;
  config.model.router.groups = {{0, 1}, {2}};
  config.train.groups = {{"mixture.router.", 0.5, 0.1}};
  const auto text = to_toml(to_json(config));
  RunConfig back;
  bind_config(parse_toml(text, "r"), back);
  EXPECT_EQ(to_json(back), to_json(config));
}

}  // namespace
}  // namespace moekit::train
