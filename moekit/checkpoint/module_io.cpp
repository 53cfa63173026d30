#include "moekit/checkpoint/module_io.h"

#include "moekit/core/error.h"

namespace moekit::checkpoint {

TensorFile module_tensors(const torch::nn::Module& module) {
  TensorFile file;
  for (const auto& item : module.named_parameters()) {
    file.tensors.emplace_back(item.key(), item.value().detach());
  }
  for (const auto& item : module.named_buffers()) {
    file.tensors.emplace_back(item.key(), item.value().detach());
  }
  return file;
}

void load_module_tensors(torch::nn::Module& module, const TensorFile& file,
                         const std::string& where) {
  const torch::NoGradGuard no_grad;
  auto wanted = module_tensors(module);
  std::string problems;
  for (const auto& [name, tensor] : wanted.tensors) {
    if (!file.contains(name)) {
      problems += concat("\n  missing ", name, " ", tensor.sizes());
      continue;
    }
    const auto& given = file.at(name);
    if (given.sizes() != tensor.sizes() || given.scalar_type() != tensor.scalar_type()) {
      problems += concat("\n  ", name, " is ", given.sizes(), " ", given.dtype(), ", wanted ",
                         tensor.sizes(), " ", tensor.dtype());
    }
  }
  for (const auto& [name, tensor] : file.tensors) {
    if (!wanted.contains(name)) problems += concat("\n  unexpected ", name, " ", tensor.sizes());
  }
  MOEKIT_CHECK_FORMAT(problems.empty(), where, ": the tensors do not fit the model:", problems);
  for (auto& [name, tensor] : wanted.tensors) tensor.copy_(file.at(name));
}

void load_submodule_tensors(torch::nn::Module& module, const TensorFile& file,
                            const std::string& prefix, const std::string& where) {
  TensorFile part;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.rfind(prefix, 0) == 0) part.tensors.emplace_back(name.substr(prefix.size()), tensor);
  }
  load_module_tensors(module, part, concat(where, " (", prefix, "*)"));
}

}  // namespace moekit::checkpoint
