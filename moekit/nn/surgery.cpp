#include "moekit/nn/surgery.h"

#include "moekit/checkpoint/optimizer_io.h"
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
  }
  module.eval();
}

void FrozenModules::add(std::shared_ptr<torch::nn::Module> module) {
  freeze(*module);
  modules_.push_back(std::move(module));
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
  ExpertEdit edit(torch::tensor(chosen, torch::kLong));
  layer.router->take_experts(edit);
  layer.experts->take_experts(edit);
  layer.module->note_edit(edit.index);
  if (optimizer == nullptr) return;
  for (const auto& tensor : edit.rows) {
    checkpoint::take_optimizer_rows(*optimizer, tensor, edit.index);
  }
  for (const auto& [copy, source] : edit.copies) {
    checkpoint::copy_optimizer_parameter(*optimizer, source, copy);
  }
  for (const auto& parameter : edit.removed) {
    checkpoint::remove_optimizer_parameter(*optimizer, parameter);
  }
}

void take_experts(RoutedModule& module, const std::vector<int64_t>& chosen,
                  torch::optim::Optimizer* optimizer) {
  auto layer = module.routed_parts();
  layer.module = &module;
  take_experts(layer, chosen, optimizer);
}

}  // namespace moekit::nn
