#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moekit/published/router_rule.h"

/// What a published model is, whatever its family: read from its config.json alone.
namespace moekit::published {

/// A tensor's name, behind a layer's prefix where it is in a layer, and its sizes. "{e}" in a name
/// stands for an expert's number.
struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
};

struct RotaryPositions {
  double theta = 10000;
  int64_t channels = 0;  ///< of a head that are turned
  bool interleaved = false;
  std::string scaling = "default";  ///< "linear", "llama3", "yarn", "longrope", "dynamic"
};

struct AttentionPart {
  std::string kind = "grouped";  ///< "latent", or what does not run here: "mamba", ...
  bool softmax = true;           ///< false: no attention over earlier tokens, not run here
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t key_size = 0;  ///< of a head
  int64_t value_size = 0;
  int64_t window = 0;  ///< tokens a query sees, itself included; 0: all
  int64_t chunk = 0;   ///< tokens see those of their own chunk; 0: none
  bool sinks = false;  ///< a learned logit a head
  bool gated = false;  ///< outputs times a sigmoid of the token
  std::optional<RotaryPositions> rotary;
  std::vector<NamedShape> tensors;
};

/// One way in which a mixture's weights lie in files.
struct MixtureStorage {
  std::string kind;  ///< "a tensor an expert", "fused", ...
  std::vector<NamedShape> router;
  std::vector<NamedShape> each;    ///< of every expert: "{e}"
  std::vector<NamedShape> all;     ///< of all experts together
  std::vector<NamedShape> biases;  ///< of all experts together
  /// Shapes of `all` that are numbers of another kind: scales of packed weights. The weights they
  /// belong to have `codes_each` values a byte.
  std::vector<NamedShape> scales;
  int64_t codes_each = 1;
};

struct MixturePart {
  int64_t num_experts = 0;   ///< with weights
  int64_t num_identity = 0;  ///< experts that return their input
  int64_t top_k = 0;
  int64_t width = 0;  ///< hidden values of an expert
  std::string activation = "silu";
  bool gated = true;  ///< act(gate) * up
  RouterRule rule;
  std::vector<MixtureStorage> storages;  ///< as published first
  int64_t shared_width = 0;              ///< of what runs on every token; 0: nothing
  bool shared_gate = false;              ///< times a sigmoid of the token
  std::vector<NamedShape> shared;
};

struct BlockPart {
  std::vector<AttentionPart> attention;  ///< one, or two
  std::optional<MixturePart> mixture;
  int64_t dense_width = 0;
  std::vector<NamedShape> dense;
  std::vector<NamedShape> norms;
};

struct Architecture {
  std::string family;
  std::string where;  ///< config.json
  int64_t hidden_size = 0;
  int64_t vocabulary_size = 0;
  int64_t context = 0;  ///< 0: the config does not say
  bool tied_embeddings = false;
  std::string dtype;         ///< as the config says it; empty: it does not
  std::string quantization;  ///< "fp8", "mxfp4"; empty: none
  int64_t scale_rows = 0;    ///< fp8: rows and columns of a matrix that share a scale
  int64_t scale_columns = 0;
  std::string layer_prefix = "model.layers.";
  std::vector<NamedShape> embedding;  ///< full names
  std::vector<NamedShape> head;
  std::vector<NamedShape> norms;
  std::vector<BlockPart> blocks;
};

}  // namespace moekit::published
