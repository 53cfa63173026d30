#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moekit/bench/layer_shape.h"

namespace moekit::bench {

/// Other ways to run the layer, on libtorch. Each step runs layer `layer` on `tokens` [N, D] and
/// makes gradients of everything where the pass is `train`.
struct Baseline {
  std::string name;
  std::function<void(std::int64_t layer, const torch::Tensor& tokens,
                     const torch::Tensor& expert_index, const torch::Tensor& combine_weight)>
      step;
};

/// "libtorch, module per expert": three Linear an expert, in a loop over those with tokens;
/// "libtorch, dense f32" and "oneDNN, dense bf16": one expert's three products on N * K rows, what
/// a library reaches when no routing is in its way.
/// "moekit autograd" (train alone): the layer's own node with everything libtorch adds to it.
std::vector<Baseline> make_baselines(const LayerShape& shape, Pass pass, std::int64_t layers);

}  // namespace moekit::bench
