#pragma once

#include <cstdint>
#include <vector>

#include "moekit/bench/layer_shape.h"
#include "moekit/kernels/ffn/expert_ffn.h"

namespace moekit::bench {

/// A layer packed for the forward pass. All experts are copies of one: only time is of interest.
struct PackedLayer {
  /// @param values  at least D * max(F, shared size)
  PackedLayer(const LayerShape& shape, kernels::WeightFormat format,
              const std::vector<float>& values);
  PackedLayer(const PackedLayer& other);
  PackedLayer(PackedLayer&&) = default;

  kernels::PackedExperts routed;
  kernels::PackedExperts shared;  ///< of width 1 where the shape has none
};

/// A layer's parameters and their gradients, for the training step.
class TrainLayer {
 public:
  TrainLayer(const LayerShape& shape, const std::vector<float>& values);
  kernels::TrainBank bank(const kernels::RoutingPlan& plan, kernels::ComputeType compute);
  kernels::MutableExpertMatrices gradients();

 private:
  kernels::FfnShape shape_;
  std::int64_t matrix_;  // values of all experts' gate, up or down
  kernels::Slab weights_;
  kernels::Slab gradients_;
};

}  // namespace moekit::bench
