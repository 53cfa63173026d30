#include "moekit/nn/routed_layer.h"

#include <numeric>

#include "moekit/core/error.h"

namespace moekit::nn {

void RoutedModule::join_parts(const char* who, const RouterImpl* router,
                              const ExpertsImpl* experts) {
  MOEKIT_CHECK(router != nullptr && experts != nullptr, who, ": needs a router and experts");
  MOEKIT_CHECK(router->num_experts() == experts->num_experts(), who, ": the router chooses of ",
               router->num_experts(), " experts; there are ", experts->num_experts());
  MOEKIT_CHECK(
      !router->needs_expert_features() || router->feature_size() == experts->feature_size(), who,
      ": the router takes expert features of size ", router->feature_size(), "; the experts give ",
      experts->feature_size());
  start_with(experts->num_experts());
}

void RoutedModule::start_with(int64_t num_experts) {
  kept_.resize(static_cast<size_t>(num_experts));
  std::iota(kept_.begin(), kept_.end(), int64_t{0});
}

void RoutedModule::note_edit(const torch::Tensor& index) {
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < index.numel(); ++i) {
    kept.push_back(kept_.at(static_cast<size_t>(index[i].item<int64_t>())));
  }
  kept_ = std::move(kept);
}

std::vector<RoutedLayer> routed_layers(torch::nn::Module& model) {
  std::vector<RoutedLayer> layers;
  const auto add = [&](const std::string& name, torch::nn::Module* module) {
    auto* routed = dynamic_cast<RoutedModule*>(module);
    if (routed == nullptr) return;
    auto layer = routed->routed_parts();
    layer.name = name;
    layer.module = routed;
    layers.push_back(std::move(layer));
  };
  add("", &model);  // named_modules() of a model on the stack cannot name the model itself
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    add(item.key(), item.value().get());
  }
  return layers;
}

}  // namespace moekit::nn
