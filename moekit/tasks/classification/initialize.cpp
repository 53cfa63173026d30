#include "moekit/tasks/classification/initialize.h"

#include "moekit/checkpoint/manifest.h"
#include "moekit/checkpoint/module_io.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/random.h"

namespace moekit::classification {
namespace fs = std::filesystem;
namespace {

using Modules = std::vector<std::shared_ptr<torch::nn::Module>>;

/// Copies parts of the model, by their names in it, out of another run's model.
void copy_parts(const char* key, const std::string& run, models::ClassifierImpl& model,
                const Modules& parts) {
  if (run.empty()) return;
  MOEKIT_CHECK(!parts.empty(), key, ": the model has no such part");
  const fs::path file = fs::path(run) / "model" / "model.safetensors";
  std::error_code error;
  if (!fs::exists(file, error)) {
    throw IoError(concat(key, ": ", run, " holds no model of a finished run"));
  }
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
  copy_parts("init.experts_from", init.experts_from, model, experts);
  copy_parts("init.router_from", init.router_from, model, routers);
  copy_parts("init.trunk_from", init.trunk_from, model, trunks_of(routers));
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
