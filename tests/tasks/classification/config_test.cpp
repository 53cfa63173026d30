#include "moekit/tasks/classification/config.h"

#include <gtest/gtest.h>

#include "moekit/models/mixture_classifier.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/tasks/classification/task.h"

namespace moekit::classification {
namespace {

/// A recipe on generated images of 12 x 12 in two classes.
Config resolve(const std::vector<std::string>& set) {
  ConfigTree tree;
  apply_override(tree, "data.name=synthetic-clusters");
  for (const auto& assignment : set) apply_override(tree, assignment);
  Config config;
  bind_config(tree, config);
  return config;
}

std::string error_of(const std::vector<std::string>& set) {
  const auto folder = std::filesystem::temp_directory_path() / concat("moekit-none-", ::getpid());
  try {
    auto config = resolve(set);
    config.train.loop.epochs = std::min<int64_t>(config.train.loop.epochs, 0);
    run_recipe(config, {folder, "", false, true});
    std::filesystem::remove_all(folder);
  } catch (const ArgumentError& error) {
    EXPECT_FALSE(std::filesystem::exists(folder)) << "a refused recipe left a run folder";
    return error.what();
  }
  return "no error";
}

TEST(ClassificationConfig, RefusesImpossibleValuesWithKeyWantedAndGot) {
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
      {{"model.kind=\"sparse\"", "model.expert.kind=\"conv\""}, "takes images"},
      {{"model.capacity_factor=1.0"},
       "unknown key model.capacity_factor; kind = \"mixture\" has kind num_experts form expert "
       "router"},
      {{"model.output_loss=\"double_softmax\""},
       "unknown key model.output_loss; kind = \"mixture\""},
      // Routers that the task's loss cannot train.
      {{"model.kind=\"sparse\"", "model.router.top_k=1"},
       "model.router: top_k = 1 with combine_weights = \"renormalized\" gives the weight 1"},
      {{"model.kind=\"sparse_mixture\"", "model.router.top_k=1"},
       "model.router: top_k = 1 with combine_weights = \"renormalized\" gives the weight 1"},
      {{"model.kind=\"sparse\"", "model.num_experts=1"}, "model.router: there is one expert"},
      {{"model.num_experts=1"}, "model.num_experts = 1, model.router: there is one expert"},
      {{"model.kind=\"sparse\"", "model.router={top_k=2, aux_only=true}"},
       "model.router: aux_only = true: this router gets a gradient"},
      {{"model.router.aux_only=true"},
       "model.router: aux_only = true: this router gets a gradient"},
      {{"model.kind=\"sparse\"", "model.router={top_k=1, aux_only=true}"},
       "layer \"moe\": aux_only = true wants a loss on routing"},
      {{"model.kind=\"sparse\"", "model.capacity_factor=1e8", "model.min_capacity=0"},
       "model.min_capacity must be at least 1; got 0"},
      {{"model.kind=\"sparse\"", "model.capacity_priority=\"rank\""}, "this layer never drops"},
      {{"model.kind=\"sparse_mixture\"", "model.router.top_k=2", "model.eval_capacity_factor=-0.5"},
       "model.eval_capacity_factor must be finite and at least 0, or -1; got -0.5"},
      // What would have no effect.
      {{"model.router.noise_scale=3.0"}, "noise_scale has no effect with noise = \"none\"; got 3"},
      {{"model.router.combine_weights=\"probs\""},
       "model.router.combine_weights has no effect with kind = \"mixture\""},
      {{"model.router.trunk_relu=false"}, "model.router.trunk_relu has no effect without"},
      {{"train.stop_from_epoch=3"}, "train.stop_from_epoch has no effect without stop_below"},
      {{"loss.similarity_relative=true"}, "loss.similarity_relative has no effect while"},
      {{"loss.similarity_scale=\"released\""}, "loss.similarity_scale has no effect while"},
      {{"model.kind=\"single\"", "model.router.top_k=1"},
       "unknown key model.router; kind = \"single\" has kind expert"},
      {{"model.router.kind=\"attentive\"", "model.router.temperature=2.0"},
       "unknown key model.router.temperature; kind = \"attentive\" has kind input"},
      {{"model.kind=\"sparse\"", "model.router.trunk.hidden=[4]"}, "without a trunk"},
      {{"model.router.kind=\"best\""}, "unknown router \"best\"; known: linear, attentive"},
      {{"model.router.temperature=nan"}, "model.router.temperature must be a finite number"},
      {{"model.router.input=\"patch_sum\"", "model.router.patch_size=5",
        "model.router.trunk.hidden=[]", "model.router.trunk.conv=[]"},
       "must divide 12x12; got 5"},
      {{"model.expert.kind=\"patch\"", "model.expert.activation=\"swiglu\""}, "gated"},
      {{"model.expert.kind=\"mlp\"", "model.expert.activation=\"quartic\""}, "cubic"},
      {{"train.optimizer=\"normalized_gd\""}, "belong together"},
      {{"model.router.noise=\"uniform\"", "model.router.noise_scale=0"},
       "noise_scale must be positive with noise = \"uniform\""},
      {{"train.noisy_test=true"}, "wants a model.router.noise"},
      {{"train.evaluate_every=0"}, "train.evaluate_every must be at least 1; got 0"},
      {{"train.lr=0"}, "train.lr must be positive; got 0"},
      {{"train.lr=1e308"}, "train.lr must be at most 1e+09; got 1e+308"},
      {{"train.groups=[{ match = \"e\", lr_scale = nan }]"},
       "train.groups[0].lr_scale must be a finite number; got nan"},
      {{"train.groups=[{ match = \"e\", lr_scale = -1.0 }]"},
       "train.groups[0].lr_scale must be at least 0; got -1.0"},
      {{"train.groups=[{ match = \"e\", weight_decay = -1.0 }]"},
       "train.groups[0].weight_decay must be at least 0; got -1.0"},
      {{"train.clip_norm=inf"}, "train.clip_norm must be a finite number; got inf"},
      {{"train.clip_norm=1e308"}, "train.clip_norm must be at most 1e+09"},
      {{"train.weight_decay=-0.5"}, "train.weight_decay must be at least 0; got -0.5"},
      {{"train.beta2=1.0"}, "train.beta2 must be below 1; got 1.0"},
      {{"train.eps=0"}, "train.eps must be positive; got 0"},
      {{"model.router.noise_scale=1e308"}, "model.router.noise_scale must be at most 1e+09"},
      {{"train.batch_size=9223372036854775807"},
       "train.batch_size must be at most 1e+09; got 9223372036854775807"},
      {{"train.epochs=9223372036854775807"}, "train.epochs must be at most 1e+09"},
      {{"data.holdout=9223372036854775807"}, "data.holdout must be at most 1e+09"},
      {{"threads=2147483648"}, "threads must be at most 1024; got 2147483648"},
      {{"train.epochs=-1"}, "train.epochs must be at least 0; got -1"},
      {{"train.batch_size=0"}, "train.batch_size must be at least 1; got 0"},
      {{"train.momentum=0.9"},
       "unknown key train.momentum; optimizer = \"adam\", schedule = \"constant\" has epochs"},
      {{"train.accumulate=0"}, "train.accumulate must be at least 1; got 0"},
      {{"train.patience=3"}, "wants data.validation > 0"},
      {{"threads=0"}, "threads must be at least 1; got 0"},
      {{"loss.load=0.1"}, "wants a router with noise = \"gaussian\""},
      {{"loss.importance=0.1", "model.kind=\"single\""}, "the model has no router that learns"},
      {{"init.router_from=\"a\"", "init.trunk_from=\"b\""}, "only one can be given"},
  };
  for (const auto& [set, want] : cases) {
    EXPECT_NE(error_of(set).find(want), std::string::npos) << set[0] << ": " << error_of(set);
  }
}

TEST(ClassificationConfig, TheDefaultsAreValid) { EXPECT_EQ(error_of({}), "no error"); }

TEST(ClassificationConfig, ResolvedTomlReadsBackToTheSameRecipe) {
  Config config;
  config.model->as<models::MixtureConfig>().router->select("oracle");
  config.model->as<models::MixtureConfig>().router->as<nn::OracleRouterOptions>().groups(
      {{0, 1}, {2}});
  config.train.loop.groups = {{"mixture.router.", 0.5, 0.1}};
  const auto text = to_toml(to_json(config));
  Config back;
  bind_config(parse_toml(text, "r"), back);
  EXPECT_EQ(to_json(back), to_json(config));
}

}  // namespace
}  // namespace moekit::classification
