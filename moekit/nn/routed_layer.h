#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

#include "moekit/nn/experts.h"
#include "moekit/nn/router.h"

namespace moekit::nn {

class RoutedModule;

/// One mixture of a model, of whatever class. The parts are the model's own, not copies.
struct RoutedLayer {
  std::string name;                    ///< dotted name of the module in the model
  std::shared_ptr<RouterImpl> router;  ///< null where there is one expert and nothing to choose
  std::shared_ptr<ExpertsImpl> experts;
  std::shared_ptr<ExpertsImpl> shared;  ///< experts that run on every token; may be null
  RoutedModule* module = nullptr;       ///< what it is part of; lives as long as the model
};

/// What a module with routed experts implements, so that inspection, surgery and saving find it.
class RoutedModule {
 public:
  virtual ~RoutedModule() = default;
  /// Its parts; name and module are filled in by routed_layers().
  virtual RoutedLayer routed_parts() const = 0;

  /// What the module gives for inputs as `LayerRouting::samples` has them: [N, O], of a classical
  /// mixture the class probabilities [N, C]. Undefined where those are not all it needs, as of a
  /// layer whose tokens share a gate.
  virtual torch::Tensor outputs_of(const torch::Tensor& /*samples*/,
                                   const RouterContext& /*context*/) {
    return {};
  }

  /// For each expert, which of those the layer was built with it is: 0..E-1 at first;
  /// take_experts() changes it. A saved model keeps it, so that one with fewer experts can be built
  /// again.
  const std::vector<int64_t>& kept_experts() const { return kept_; }
  /// Experts `index` of the present ones are what is left. @param index [E'] int64
  void note_edit(const torch::Tensor& index);

 protected:
  /// Takes over the parts a module is built from. @param who  for messages
  /// @throws ArgumentError when one is missing, or they disagree on E or on the feature size.
  void join_parts(const char* who, const RouterImpl* router, const ExpertsImpl* experts);
  /// Of a module that has experts and no router.
  void start_with(int64_t num_experts);

 private:
  std::vector<int64_t> kept_;
};

/// All mixtures of a model, in the order of their modules.
std::vector<RoutedLayer> routed_layers(torch::nn::Module& model);

/// What one layer decided in a forward pass, for losses, metrics and traces.
struct LayerRouting {
  std::string name;
  Routing routing;
  torch::Tensor samples;  ///< the layer's inputs [N, ...], one for each row of `routing`
  int64_t dropped = 0;    ///< assignments beyond the capacity
};

}  // namespace moekit::nn
