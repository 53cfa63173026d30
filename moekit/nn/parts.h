#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>

namespace moekit::nn {

/// Registers `part`, held through one of our interfaces, as a child of `owner`; null stays out.
template <typename Part>
void register_part(torch::nn::Module& owner, const std::string& name,
                   const std::shared_ptr<Part>& part) {
  if (part) owner.register_module(name, std::static_pointer_cast<torch::nn::Module>(part));
}

/// Replaces `part` by a deep copy and registers that: what reset() does in a clone.
template <typename Part>
void register_copy(torch::nn::Module& owner, const std::string& name, std::shared_ptr<Part>& part) {
  if (part) part = std::dynamic_pointer_cast<Part>(part->clone());
  register_part(owner, name, part);
}

}  // namespace moekit::nn
