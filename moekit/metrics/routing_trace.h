#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "moekit/nn/routed_layer.h"

namespace moekit::metrics {

/// What one layer's router decided for N tokens: a flat list of assignments, as in `nn::Routing`.
/// For a router that sends every token to all experts, each token's most probable one.
struct LayerTrace {
  std::string name;
  torch::Tensor token;   ///< [A] int64, 0..N-1
  torch::Tensor expert;  ///< [A] int64, 0..E-1
  torch::Tensor probs;   ///< [N, E] float32

  int64_t num_tokens() const { return probs.size(0); }
  int64_t num_experts() const { return probs.size(1); }
  /// Mean number of assignments a token, A / N; 0 for N = 0.
  double mean_top_k() const;
  /// [N, E] bool: which experts a token is sent to. @throws ArgumentError naming an id out of range
  torch::Tensor active() const;
  /// [N, K] where every token has K assignments, in order; undefined otherwise.
  torch::Tensor expert_index() const;
  /// The most probable expert of every token, [N] int64. Of equal ones the token's first assignment
  /// where that is one of them (the router chose by logits, whose softmax rounds to more ties),
  /// else the lowest.
  torch::Tensor top1() const;
};

/// Of K experts a token. @param expert_index [N, K] int64 @throws ArgumentError when sizes differ
LayerTrace make_layer_trace(std::string name, const torch::Tensor& expert_index,
                            torch::Tensor probs);

/// A recorded run of a model over a data set: routing of every layer, and any labels of the tokens
/// ("label", "predicted", "cluster", ...). Where experts are classifiers also each one's output.
///
/// File format: safetensors. Metadata: "format" = "moekit-routing-trace", "version" = "2",
/// "layers" = the layers' names joined by ','. Tensors: "<layer>.token", "<layer>.expert" [A] I64,
/// "<layer>.probs" [N, E] F32, "labels.<name>" [N] I64, optional "expert_log_probs" [E, N, C] F32,
/// and no others. E is at least 1, numbers are finite, probabilities not negative, labels below
/// 2^31, layers named once.
/// Version 1, which is still read, has "<layer>.expert_index" [N, K] I64 in place of the first two.
struct RoutingTrace {
  std::vector<LayerTrace> layers;
  std::map<std::string, torch::Tensor> labels;
  torch::Tensor expert_log_probs;  ///< [E, N, C] or undefined
};

/// Puts the routings of batches together. @throws ArgumentError when layers differ from those
/// before
class TraceRecorder {
 public:
  /// Layers of one batch, the same ones in every batch.
  void add(const std::vector<nn::LayerRouting>& layers);
  std::vector<LayerTrace> finish() const;

 private:
  struct Parts {
    std::string name;
    std::vector<torch::Tensor> token, expert, probs;
    int64_t num_tokens = 0;
  };
  std::vector<Parts> layers_;
};

void write_trace(const std::filesystem::path& path, const RoutingTrace& trace);

/// In time linear in the file's size.
/// @throws IoError, or FormatError naming path, key and value: not a trace, layers named twice,
///         tensors missing, unknown or of sizes that do not go together, tokens, experts or labels
///         out of range, NaN.
RoutingTrace read_trace(const std::filesystem::path& path);

}  // namespace moekit::metrics
