#pragma once

#include <cstdint>
#include <vector>

namespace moekit::nn {

/// What routers and experts of a recipe are made for.
struct LayerSite {
  std::vector<int64_t> input;  ///< shape of one sample: {D}, or {C, H, W}
  int64_t num_experts = 1;     ///< E
  int64_t output_size = 0;     ///< O of an expert
  int64_t feature_size = 0;    ///< h of the experts' features, for routers that read them; 0: none
  int64_t num_tasks = 0;       ///< task ids (labels) there are, for routers told the truth
  int64_t previous_experts = 0;  ///< E of the model's mixture before this one; 0: there is none
  int64_t vocabulary_size = 0;   ///< ids of tokens there are, for routers that go by them; 0: none

  bool is_image() const { return input.size() == 3; }
  /// Values of one sample.
  int64_t size() const {
    int64_t product = 1;
    for (const int64_t dim : input) product *= dim;
    return product;
  }
};

}  // namespace moekit::nn
