#include "moekit/bench/layer_shape.h"

#include <string>

#include "moekit/core/error.h"

namespace moekit::bench {

const std::vector<LayerShape>& layer_shapes() {
  static const std::vector<LayerShape> kShapes{
      {"mixtral4", 8, 2, 1024, 3584, 0, "Mixtral with a quarter of the widths"},
      {"olmoe", 64, 8, 2048, 1024, 0, "OLMoE-1B-7B"},
      {"qwen3-30b", 128, 8, 2048, 768, 0, "Qwen3-30B-A3B"},
      {"deepseek-v2-lite", 64, 6, 2048, 1408, 2816, "DeepSeek-V2-Lite, two shared experts as one"},
      {"tiny", 16, 2, 128, 128, 0, "a small research model"},
  };
  return kShapes;
}

const LayerShape& find_layer_shape(std::string_view name) {
  std::string known;
  for (const auto& shape : layer_shapes()) {
    if (shape.name == name) return shape;
    known += (known.empty() ? "" : ", ") + std::string(shape.name);
  }
  throw ArgumentError(concat("shape \"", name, "\" is unknown; wanted one of ", known));
}

}  // namespace moekit::bench
