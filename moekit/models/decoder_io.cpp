#include "moekit/models/decoder_io.h"

#include <algorithm>
#include <set>

#include "moekit/checkpoint/manifest.h"
#include "moekit/core/config.h"
#include "moekit/core/error.h"
#include "moekit/core/schema.h"
#include "moekit/models/model_io.h"
#include "moekit/nn/moe_layer.h"

namespace moekit::models {
namespace fs = std::filesystem;
namespace {

/// Keys that may differ between a mixture and the dense network that it is made of.
const std::set<std::string> kOfMixtures = {"dense",
                                           "first_routed",
                                           "routed_every",
                                           "num_experts",
                                           "num_shared",
                                           "capacity_factor",
                                           "eval_capacity_factor",
                                           "min_capacity",
                                           "capacity_tau",
                                           "capacity_priority",
                                           "renormalize_dropped",
                                           "expert",
                                           "token_heads",
                                           "head_layer",
                                           "merge_layer",
                                           "router",
                                           "adapters",
                                           "init_std",
                                           "context"};

/// Keys of a feed-forward network that change nothing it computes.
const std::set<std::string> kOfTraining = {"init", "compute", "keep_activations"};

void check_like(const DecoderImpl& model, const DecoderImpl& dense) {
  MOEKIT_CHECK(model.vocabulary_size() == dense.vocabulary_size(), "the vocabulary has ",
               model.vocabulary_size(), " tokens here and ", dense.vocabulary_size(),
               " in the dense model");
  MOEKIT_CHECK(model.config().num_shared == 0,
               "model.num_shared must be 0: what the dense network computes goes to the routed "
               "experts; got ",
               model.config().num_shared);
  MOEKIT_CHECK(!model.config().multi_head.any(),
               "model.token_heads must be 1, head_layer and merge_layer false: a network of whole "
               "tokens cannot be one of their parts");
  MOEKIT_CHECK(dense.config().adapters.num_experts() == 0,
               "it has adapters itself, which would be lost; wants the model beneath them");
  bool has_dense = false;
  for (int64_t l = 0; l < model.config().num_layers; ++l) {
    has_dense = has_dense || !model.config().routed(l);
  }
  const Json own = to_json(model.config().dense);
  const Json other = to_json(dense.config().dense);
  for (const auto& [key, value] : own.items()) {
    MOEKIT_CHECK(!has_dense || kOfTraining.count(key) > 0 || other[key] == value, "model.dense.",
                 key, " is ", value.dump(), " here and ", other[key].dump(),
                 " in the dense model, whose blocks without a mixture are taken as they are");
  }
  const Json ours = to_json(model.config());
  const Json theirs = to_json(dense.config());
  for (const auto& [key, value] : ours.items()) {
    if (kOfMixtures.count(key) > 0) continue;
    MOEKIT_CHECK(theirs.contains(key) && theirs[key] == value, "model.", key, " is ", value.dump(),
                 " here and ", theirs.value(key, Json()).dump(), " in the dense model");
  }
}

using Copies = std::vector<std::pair<torch::Tensor, torch::Tensor>>;

/// What is outside of mixtures, by name.
Copies rest_of(DecoderImpl& model, DecoderImpl& dense, const std::set<std::string>& mixtures) {
  Copies copies;
  const auto take = [&](const auto& ours, const auto& theirs) {
    for (const auto& item : ours) {
      const bool routed = std::any_of(mixtures.begin(), mixtures.end(), [&](const auto& name) {
        return item.key().rfind(name + ".", 0) == 0;
      });
      if (routed) continue;
      const auto* found = theirs.find(item.key());
      MOEKIT_CHECK(found != nullptr && found->sizes() == item.value().sizes(), item.key(), " is ",
                   item.value().sizes(), " here and ",
                   found == nullptr ? std::string("not there") : concat(found->sizes()),
                   " in the dense model");
      copies.emplace_back(item.value(), *found);
    }
  };
  take(model.named_parameters(), dense.named_parameters());
  take(model.named_buffers(), dense.named_buffers());
  return copies;
}

}  // namespace

Decoder load_decoder(const fs::path& folder) {
  static const Schema kSchema =
      Schema::object({{"model", Schema::map(Schema::any())}, {"vocabulary", Schema::count(1)}});
  checkpoint::check_manifest(folder);
  const fs::path file = folder / "config.json";
  const Json description = read_json(file);
  kSchema.check(description, file.string());
  DecoderConfig config;
  bind_json(description["model"], file.string(), config);
  Decoder model(config, description["vocabulary"].get<int64_t>());
  load_weights(*model, folder);
  return model;
}

void adapt_decoder(DecoderImpl& model, DecoderImpl& dense) {
  const torch::NoGradGuard no_grad;
  check_like(model, dense);
  std::set<std::string> adapters;
  for (const auto& item : model.named_modules("", false)) {
    if (dynamic_cast<nn::LowRankMixtureImpl*>(item.value().get()) != nullptr) {
      adapters.insert(item.key());
    }
  }
  MOEKIT_CHECK(!adapters.empty(), "the model has no adapters");
  for (const auto& [to, from] : rest_of(model, dense, adapters)) {
    torch::Tensor(to).copy_(from).set_requires_grad(false);
  }
}

void upcycle_decoder(DecoderImpl& model, DecoderImpl& dense, const nn::UpcycleOptions& options,
                     const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  check_like(model, dense);
  // "layer3.moe" here is "layer3.mlp" there.
  struct Pair {
    std::string name;
    const nn::MlpExpertsImpl* from;
    nn::ExpertsImpl* to;
    nn::RouterImpl* router;
  };
  std::vector<Pair> pairs;
  std::set<std::string> mixtures;
  const auto modules = dense.named_modules();
  for (const auto& layer : nn::routed_layers(model)) {
    const auto block = layer.name.substr(0, layer.name.rfind('.'));
    const auto* found = modules.find(block + ".mlp");
    auto* experts = layer.experts.get();
    MOEKIT_CHECK(found != nullptr, block, " of the dense model has a mixture itself");
    MOEKIT_CHECK(experts->network_options() != nullptr,
                 "model.expert.kind: wants feed-forward networks");
    pairs.push_back({block, dynamic_cast<const nn::MlpExpertsImpl*>(found->get()), experts,
                     layer.router.get()});
    mixtures.insert(layer.name);
  }
  MOEKIT_CHECK(!pairs.empty(), "the model has no mixture");
  const auto copies = rest_of(model, dense, mixtures);
  // All blocks are alike: what does not fit is refused at the first, before anything is changed.
  for (const auto& pair : pairs) {
    nn::upcycle(*pair.from, *pair.to, *pair.router, options, generator);
  }
  for (const auto& [to, from] : copies) torch::Tensor(to).copy_(from);
}

}  // namespace moekit::models
