#include "moekit/tasks/classification/initialize.h"

#include <algorithm>
#include <set>

#include "moekit/checkpoint/manifest.h"
#include "moekit/checkpoint/module_io.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/random.h"
#include "moekit/models/model_io.h"
#include "moekit/run/run_folder.h"

namespace moekit::classification {
namespace fs = std::filesystem;
namespace {

using Modules = std::vector<std::shared_ptr<torch::nn::Module>>;

/// Copies parts of the model, by their names in it, out of another run's model.
void copy_parts(const char* key, const std::string& run, models::ClassifierImpl& model,
                const Modules& parts) {
  if (run.empty()) return;
  MOEKIT_CHECK(!parts.empty(), key, ": the model has no such part");
  run::check_has_model(key, run);
  const fs::path file = fs::path(run) / "model" / "model.safetensors";
  checkpoint::check_in_manifest(file);
  const auto tensors = checkpoint::open_tensors(file);
  for (const auto& part : parts) {
    std::string prefix;
    for (const auto& item : model.named_modules("", /*include_self=*/false)) {
      if (item.value() == part) prefix = item.key() + ".";
    }
    checkpoint::load_submodule_tensors(*part, *tensors, prefix);
  }
}

/// Calls `work`; a fault of a file is one of the run that `key` names.
template <typename Work>
void naming(const char* key, const Work& work) {
  try {
    work();
  } catch (const FormatError& error) {
    throw FormatError(concat(key, ": ", error.what()));
  }
}

/// Refuses a dense network that computes otherwise with the same tensors: of its keys, those alone
/// may differ that are of experts and routing.
void check_like(const char* key, const fs::path& run, const Json& ours) {
  static const std::set<std::string> kOfRouting = {
      "num_experts",       "router", "path",        "capacity_factor", "eval_capacity_factor",
      "capacity_priority", "form",   "min_capacity"};
  const Json theirs = models::read_model_recipe(run / "model");
  for (const auto& [name, value] : ours.items()) {
    if (kOfRouting.count(name) > 0) continue;
    MOEKIT_CHECK(theirs.contains(name) && theirs[name] == value, key, ": model.", name, " is ",
                 value.dump(), " here and ",
                 theirs.contains(name) ? theirs[name].dump() : std::string("not there"), " in ",
                 run.string());
  }
}

/// Whether a tensor is of one of these modules. @param prefixes  their names, each with its dot
bool is_within(const std::string& name, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const auto& prefix) { return name.rfind(prefix, 0) == 0; });
}

/// Makes every expert of every layer the one that a dense network has there, and copies what
/// belongs to no layer. All or nothing.
void copy_dense(const std::string& run, models::ClassifierImpl& model, const Json& recipe) {
  static constexpr const char* kKey = "init.dense_from";
  if (run.empty()) return;
  run::check_has_model(kKey, run);
  check_like(kKey, run, recipe);
  const torch::NoGradGuard no_grad;
  const auto dense = models::load_model(fs::path(run) / "model");
  const auto layers = nn::routed_layers(model);
  const auto theirs = nn::routed_layers(*dense);
  MOEKIT_CHECK(layers.size() == theirs.size(), kKey, ": ", run, " has ", theirs.size(),
               " layers of experts, this model ", layers.size());
  std::vector<std::pair<torch::Tensor, torch::Tensor>> copies;
  const auto copy = [&](const std::string& name, const torch::Tensor& to,
                        const torch::Tensor* from) {
    MOEKIT_CHECK(from != nullptr && from->sizes() == to.sizes(), kKey, ": ", name, " is ",
                 to.sizes(), " here, and ",
                 from == nullptr ? std::string("not there") : concat(from->sizes()), " in ", run);
    copies.emplace_back(to, *from);
  };
  std::vector<std::string> prefixes;
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto& layer = layers[l];
    MOEKIT_CHECK(theirs[l].name == layer.name && theirs[l].experts->num_experts() == 1, kKey, ": ",
                 "wants a layer \"", layer.name, "\" of one expert; ", run, " has \"",
                 theirs[l].name, "\" of ", theirs[l].experts->num_experts());
    const std::string own = layer.name.empty() ? "" : layer.name + ".";
    for (const char* part : {"experts.", "router."}) prefixes.push_back(own + part);
    const auto one = nn::expert_tensors(*theirs[l].experts, 0);
    for (int64_t e = 0; e < layer.experts->num_experts(); ++e) {
      for (const auto& [name, tensor] : nn::expert_tensors(*layer.experts, e)) {
        const auto found = std::find_if(one.begin(), one.end(),
                                        [&](const auto& item) { return item.first == name; });
        copy(own + name, tensor, found == one.end() ? nullptr : &found->second);
      }
    }
  }
  const auto rest = [&](const auto& ours, const auto& of_dense) {
    for (const auto& item : ours) {
      if (!is_within(item.key(), prefixes)) {
        copy(item.key(), item.value(), of_dense.find(item.key()));
      }
    }
  };
  rest(model.named_parameters(), dense->named_parameters());
  rest(model.named_buffers(), dense->named_buffers());
  for (auto& [to, from] : copies) to.detach().copy_(from);
}

/// The routers' trunks.
Modules trunks_of(const Modules& routers) {
  Modules trunks;
  for (const auto& router : routers) {
    const auto children = router->named_children();
    if (const auto* trunk = children.find("trunk")) trunks.push_back(*trunk);
  }
  return trunks;
}

}  // namespace

nn::FrozenModules initialize(models::ClassifierImpl& model, const Config& config) {
  const auto seed = static_cast<uint64_t>(config.seed);
  const InitConfig& init = config.init;
  const auto experts_seed = init.experts_seed > 0 ? static_cast<uint64_t>(init.experts_seed) : seed;
  model.reset_parameters(derive_seed(seed, "router-init"),
                         derive_seed(experts_seed, "experts-init"));
  Modules routers;
  Modules experts;
  for (const auto& layer : nn::routed_layers(model)) {
    if (layer.router) routers.push_back(layer.router);
    experts.push_back(layer.experts);
  }
  MOEKIT_CHECK(init.dense_from.empty() || init.experts_from.empty(),
               "init.dense_from and init.experts_from both say what the experts are; give one");
  MOEKIT_CHECK(init.dense_from.empty() || init.experts_seed == 0,
               "init.experts_seed has no effect with init.dense_from, which says what all experts "
               "are; got ",
               init.experts_seed);
  KindSection<models::ModelKinds> section{config.model.choice};
  naming("init.dense_from", [&] { copy_dense(init.dense_from, model, to_json(section)); });
  const auto copy = [&](const char* key, const std::string& run, const Modules& parts) {
    naming(key, [&] { copy_parts(key, run, model, parts); });
  };
  copy("init.experts_from", init.experts_from, experts);
  copy("init.router_from", init.router_from, routers);
  copy("init.trunk_from", init.trunk_from, trunks_of(routers));
  nn::FrozenModules frozen;
  if (init.freeze_router) {
    MOEKIT_CHECK(!routers.empty(), "init.freeze_router: the model has no router");
    for (const auto& router : routers) frozen.add(router);
  }
  if (init.freeze_experts) {
    for (const auto& bank : experts) frozen.add(bank);
  }
  return frozen;
}

}  // namespace moekit::classification
