#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace moekit::metrics {

/// What one layer's router decided for N tokens.
struct LayerTrace {
  std::string name;
  torch::Tensor expert_index;  ///< [N, K] int64; for a dense router sorted by probability, K = 1
  torch::Tensor probs;         ///< [N, E] float32
  int64_t num_experts() const { return probs.size(1); }
};

/// A recorded run of a model over a data set: routing of every layer, and any labels of the tokens
/// ("label", "predicted", "cluster", ...). Where experts are classifiers also each one's output.
///
/// File format: safetensors. Metadata: "format" = "moekit-routing-trace", "version" = "1",
/// "layers" = the layers' names joined by ','. Tensors: "<layer>.expert_index" [N, K] I64,
/// "<layer>.probs" [N, E] F32, "labels.<name>" [N] I64, optional "expert_log_probs" [E, N, C] F32.
struct RoutingTrace {
  std::vector<LayerTrace> layers;
  std::map<std::string, torch::Tensor> labels;
  torch::Tensor expert_log_probs;  ///< [E, N, C] or undefined
};

void write_trace(const std::filesystem::path& path, const RoutingTrace& trace);

/// @throws FormatError naming path and key: not a trace, tensors missing or of sizes that do not
///         go together, expert ids outside 0..E-1, negative labels.
RoutingTrace read_trace(const std::filesystem::path& path);

}  // namespace moekit::metrics
