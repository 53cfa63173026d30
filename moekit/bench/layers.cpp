#include "moekit/bench/layers.h"

#include <algorithm>
#include <cstring>

namespace moekit::bench {
namespace {

kernels::FfnShape ffn_shape(std::int64_t experts, std::int64_t d, std::int64_t f) {
  return {experts, d, f, d, Activation::kSwiglu, false};
}

void fill(kernels::PackedExperts& bank, const std::vector<float>& values) {
  const float* v = values.data();
  bank.pack(0, {v, v, v});
  for (std::int64_t e = 1; e < bank.shape().num_experts; ++e) bank.copy(e, bank, 0);
}

float* floats(kernels::Slab& slab) { return reinterpret_cast<float*>(slab.data()); }

}  // namespace

PackedLayer::PackedLayer(const LayerShape& shape, kernels::WeightFormat format,
                         const std::vector<float>& values)
    : routed(ffn_shape(shape.num_experts, shape.hidden_size, shape.intermediate_size), format),
      shared(ffn_shape(1, shape.hidden_size, std::max<std::int64_t>(1, shape.shared_size)),
             format) {
  fill(routed, values);
  if (shape.shared_size > 0) fill(shared, values);
}

PackedLayer::PackedLayer(const PackedLayer& other)
    : routed(other.routed.shape(), other.routed.format()),
      shared(other.shared.shape(), other.shared.format()) {
  for (std::int64_t e = 0; e < routed.shape().num_experts; ++e) routed.copy(e, other.routed, e);
  shared.copy(0, other.shared, 0);
}

TrainLayer::TrainLayer(const LayerShape& shape, const std::vector<float>& values)
    : shape_(ffn_shape(shape.num_experts, shape.hidden_size, shape.intermediate_size)),
      matrix_(shape.num_experts * shape.intermediate_size * shape.hidden_size),
      weights_(static_cast<size_t>(3 * matrix_) * sizeof(float)),
      gradients_(weights_.size()) {
  const std::int64_t one = shape.intermediate_size * shape.hidden_size;
  for (std::int64_t m = 0; m < 3 * shape.num_experts; ++m) {
    std::memcpy(floats(weights_) + m * one, values.data(),
                static_cast<size_t>(one) * sizeof(float));
  }
}

kernels::TrainBank TrainLayer::bank(const kernels::RoutingPlan& plan,
                                    kernels::ComputeType compute) {
  const float* all = floats(weights_);
  return {shape_, {all, all + matrix_, all + 2 * matrix_}, &plan, compute};
}

kernels::MutableExpertMatrices TrainLayer::gradients() {
  float* all = floats(gradients_);
  return {all, all + matrix_, all + 2 * matrix_};
}

}  // namespace moekit::bench
