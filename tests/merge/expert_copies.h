#pragma once

#include "moekit/nn/routed_layer.h"

namespace moekit::merge {

/// An expert's tensors as they are now.
inline nn::ExpertTensors copy_of(const nn::RoutedLayer& layer, int64_t expert) {
  nn::ExpertTensors copies;
  for (const auto& [name, tensor] : nn::expert_tensors(*layer.experts, expert)) {
    copies.emplace_back(name, tensor.clone());
  }
  return copies;
}

inline bool equal(const nn::ExpertTensors& a, const nn::ExpertTensors& b) {
  for (size_t t = 0; t < a.size(); ++t) {
    if (!torch::equal(a[t].second, b[t].second)) return false;
  }
  return a.size() == b.size();
}

}  // namespace moekit::merge
