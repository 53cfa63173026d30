#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <string>
#include <vector>

#include "moekit/nn/routed_layer.h"

/// Edits on whole modules: copy, freeze, choose experts. They work on names and sizes and refuse
/// what does not fit, so that nothing is copied in part.
namespace moekit::nn {

/// Copies all parameters and buffers of `from` into `to`, in place, by name.
/// @throws ArgumentError listing the names that are missing, too many or of another size.
void copy_parameters(const torch::nn::Module& from, torch::nn::Module& to);

/// Stops learning, also in the middle of training: parameters need no gradient any more and have
/// none, so that optimizers pass them over with what they remember of them. The module is put and
/// kept in evaluation mode by `FrozenModules::apply`, so that batch-normalisation statistics stand
/// too. For single experts see nn/frozen_experts.h.
void freeze(torch::nn::Module& module);
/// Learns again, from where it stood; back in training mode.
void unfreeze(torch::nn::Module& module);

/// Remembers which modules are frozen; call apply() after every `model->train()`.
class FrozenModules {
 public:
  /// freeze()s the module and remembers it.
  void add(std::shared_ptr<torch::nn::Module> module);
  /// unfreeze()s the module and forgets it.
  void remove(const std::shared_ptr<torch::nn::Module>& module);
  /// Puts the frozen modules back into evaluation mode.
  void apply() const;
  bool empty() const { return modules_.empty(); }

 private:
  std::vector<std::shared_ptr<torch::nn::Module>> modules_;
};

/// Makes the experts `chosen` of a layer its experts, in that order: one that is left out is
/// removed, one that is named twice is copied. Router and experts, options, parameters, buffers
/// and, when given, the optimizer's groups and state change together; gradients are dropped. What
/// is frozen stays frozen. A router's fixed top_k falls to the number of experts where fewer are
/// left. The router has no notion of copies: two copies of an expert share its tokens only once
/// they differ. A graph made before refuses to run backward through what changed; run forward
/// again.
/// @throws ArgumentError for an empty choice, an index out of range, a router that cannot do
///         without or with two of an expert, an optimizer whose state is not known; whatever is
///         thrown, nothing has changed.
void take_experts(const RoutedLayer& layer, const std::vector<int64_t>& chosen,
                  torch::optim::Optimizer* optimizer = nullptr);
/// The same of a module that is a routed layer itself.
void take_experts(RoutedModule& module, const std::vector<int64_t>& chosen,
                  torch::optim::Optimizer* optimizer = nullptr);

}  // namespace moekit::nn
