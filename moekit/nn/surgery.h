#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

/// Edits on whole modules: copy, freeze. They work on names and sizes and refuse what does not
/// fit, so that nothing is copied in part.
namespace moekit::nn {

/// Copies all parameters and buffers of `from` into `to`, in place, by name.
/// @throws ArgumentError listing the names that are missing, too many or of another size.
void copy_parameters(const torch::nn::Module& from, torch::nn::Module& to);

/// Stops learning: parameters need no gradient any more, and the module is put and kept in
/// evaluation mode by `FrozenModules::apply`, so that batch-normalisation statistics stand too.
void freeze(torch::nn::Module& module);

/// Remembers which modules are frozen; call apply() after every `model->train()`.
class FrozenModules {
 public:
  /// freeze()s the module and remembers it.
  void add(std::shared_ptr<torch::nn::Module> module);
  /// Puts the frozen modules back into evaluation mode.
  void apply() const;
  bool empty() const { return modules_.empty(); }

 private:
  std::vector<std::shared_ptr<torch::nn::Module>> modules_;
};

}  // namespace moekit::nn
