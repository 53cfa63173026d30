#pragma once

#include <vector>

#include "moekit/nn/routed_layer.h"

namespace moekit::compress {

/// What one layer saw and decided in one pass over some samples.
struct LayerPass {
  torch::Tensor inputs;       ///< [N, ...], as `LayerRouting::samples`
  nn::RouterContext context;  ///< of these inputs
};

/// What one layer of a trained model did on calibration samples.
struct LayerStatistics {
  std::string name;
  /// [E] assignments; where every input goes to every expert, inputs whose first choice it is
  std::vector<double> hard;
  std::vector<double> soft;  ///< [E] sums of the weights that the experts' outputs had
  torch::Tensor logits;      ///< [N, E] float64, without noise
  std::vector<LayerPass> passes;

  int64_t num_experts() const { return static_cast<int64_t>(hard.size()); }
};

/// Gathers them, pass by pass; outside of training and without gradients.
class Calibrator {
 public:
  /// @param layers  what a pass of a model gave; @param context  what it was given
  void add(const std::vector<nn::LayerRouting>& layers, const nn::RouterContext& context);
  /// One entry a layer, in the order of the passes. Nothing can be added afterwards.
  std::vector<LayerStatistics> finish();

 private:
  std::vector<LayerStatistics> layers_;
  std::vector<std::vector<torch::Tensor>> logits_;  ///< by layer and pass
};

}  // namespace moekit::compress
