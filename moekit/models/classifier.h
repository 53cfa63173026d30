#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

#include "moekit/models/config.h"
#include "moekit/nn/experts.h"
#include "moekit/nn/router.h"

namespace moekit::models {

/// The routing of one layer and the samples it decided on.
struct LayerRouting {
  std::string name;
  nn::Routing routing;
  torch::Tensor samples;  ///< the layer's inputs [N, ...]
  int64_t dropped = 0;    ///< assignments beyond the capacity
};

struct ClassifierOutput {
  torch::Tensor log_probs;  ///< [N, C]
  std::vector<LayerRouting> layers;
  torch::Tensor expert_log_probs;  ///< [E, N, C] where experts are classifiers, else undefined
};

/// A whole network for images, as the trainer sees it.
class ClassifierImpl : public torch::nn::Module {
 public:
  /// @param images [N, C, H, W] float32, normalised
  virtual ClassifierOutput forward(const torch::Tensor& images,
                                   const nn::RouterContext& context) = 0;
  /// The loss the network is trained by, without auxiliary losses; a scalar.
  virtual torch::Tensor loss(const ClassifierOutput& output, const torch::Tensor& labels) = 0;
  /// Draws all weights anew: router and experts from streams of their own.
  virtual void reset_parameters(uint64_t router_seed, uint64_t experts_seed) = 0;
  /// Null where there is none.
  virtual std::shared_ptr<nn::RouterImpl> router() const { return nullptr; }
  virtual std::shared_ptr<nn::ExpertsImpl> experts() const { return nullptr; }
};

/// Builds the network. @throws ArgumentError as `validate`.
std::shared_ptr<ClassifierImpl> make_classifier(const ModelConfig& config, const InputShape& input);

}  // namespace moekit::models
