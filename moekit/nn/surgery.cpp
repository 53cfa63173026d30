#include "moekit/nn/surgery.h"

#include <algorithm>
#include <optional>

#include "moekit/checkpoint/optimizer_rows.h"
#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

using Named = torch::OrderedDict<std::string, torch::Tensor>;

void compare(const Named& from, const Named& to, std::string& problems) {
  for (const auto& item : to) {
    const auto* source = from.find(item.key());
    if (source == nullptr) {
      problems += concat("\n  missing ", item.key());
    } else if (source->sizes() != item.value().sizes()) {
      problems +=
          concat("\n  ", item.key(), " is ", source->sizes(), ", wanted ", item.value().sizes());
    }
  }
  for (const auto& item : from) {
    if (to.find(item.key()) == nullptr) problems += concat("\n  unexpected ", item.key());
  }
}

/// Places of the frozen experts among those that were chosen.
std::vector<int64_t> still_frozen(const std::vector<int64_t>& frozen,
                                  const std::vector<int64_t>& chosen) {
  std::vector<int64_t> places;
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (std::find(frozen.begin(), frozen.end(), chosen[i]) != frozen.end()) {
      places.push_back(static_cast<int64_t>(i));
    }
  }
  return places;
}

void copy(const Named& from, const Named& to) {
  for (const auto& item : to) {
    item.value().copy_(from[item.key()]);
  }
}

}  // namespace

void copy_parameters(const torch::nn::Module& from, torch::nn::Module& to) {
  const torch::NoGradGuard no_grad;
  std::string problems;
  compare(from.named_parameters(), to.named_parameters(), problems);
  compare(from.named_buffers(), to.named_buffers(), problems);
  MOEKIT_CHECK(problems.empty(), "copy_parameters: the modules differ:", problems);
  copy(from.named_parameters(), to.named_parameters());
  copy(from.named_buffers(), to.named_buffers());
}

void freeze(torch::nn::Module& module) {
  for (auto& parameter : module.parameters()) {
    parameter.set_requires_grad(false);
    parameter.mutable_grad().reset();  // an optimizer steps whatever has a gradient, also a zero
  }
  module.eval();
}

void unfreeze(torch::nn::Module& module) {
  for (auto& parameter : module.parameters()) parameter.set_requires_grad(true);
  module.train();
}

void FrozenModules::add(std::shared_ptr<torch::nn::Module> module) {
  freeze(*module);
  modules_.push_back(std::move(module));
}

void FrozenModules::remove(const std::shared_ptr<torch::nn::Module>& module) {
  unfreeze(*module);
  modules_.erase(std::remove(modules_.begin(), modules_.end(), module), modules_.end());
}

void FrozenModules::apply() const {
  for (const auto& module : modules_) module->eval();
}

void take_experts(const RoutedLayer& layer, const std::vector<int64_t>& chosen,
                  torch::optim::Optimizer* optimizer) {
  MOEKIT_CHECK(layer.router != nullptr, "take_experts: layer \"", layer.name, "\" has no router");
  MOEKIT_CHECK(!chosen.empty(), "take_experts: needs at least one expert");
  for (const int64_t expert : chosen) {
    MOEKIT_CHECK(expert >= 0 && expert < layer.experts->num_experts(), "take_experts: expert ",
                 expert, "; the layer has ", layer.experts->num_experts());
  }
  std::optional<checkpoint::OptimizerEdit> of_optimizer;
  if (optimizer != nullptr) of_optimizer.emplace(*optimizer);
  ExpertEdit edit(torch::tensor(chosen, torch::kLong));
  layer.router->take_experts(edit);
  layer.experts->take_experts(edit);
  edit.then([&] {
    layer.experts->set_frozen_experts(still_frozen(layer.experts->frozen_experts(), chosen));
    layer.module->note_edit(edit.index);
  });
  if (of_optimizer) {
    for (const auto& tensor : edit.rows) of_optimizer->take_rows(tensor, edit.index);
    for (const auto& [copy, source] : edit.copies) of_optimizer->copy(source, copy);
    for (const auto& parameter : edit.removed) of_optimizer->remove(parameter);
  }
  edit.commit();
  if (of_optimizer) of_optimizer->commit();
}

void take_experts(RoutedModule& module, const std::vector<int64_t>& chosen,
                  torch::optim::Optimizer* optimizer) {
  auto layer = module.routed_parts();
  layer.module = &module;
  take_experts(layer, chosen, optimizer);
}

}  // namespace moekit::nn
