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
  std::string
      role{};  ///< what it is to its part, in words that all families share: "q", "gate", ...
};

/// Numbers that stretch rotary positions; which of them count is the scaling's matter.
struct RotaryScaling {
  double factor = 1;
  int64_t original_context = 0;
  double low_freq_factor = 1;            // llama3
  double high_freq_factor = 4;           // llama3
  double beta_fast = 32;                 // yarn
  double beta_slow = 1;                  // yarn
  bool truncate = true;                  // yarn
  std::optional<double> mscale;          // yarn
  std::optional<double> mscale_all_dim;  // yarn
  std::optional<double> attention_factor;
  std::vector<double> short_factors;   // longrope
  std::optional<double> short_mscale;  // longrope
  double alpha = 1;                    // dynamic
};

struct RotaryPositions {
  double theta = 10000;
  int64_t channels = 0;  ///< of a head that are turned
  int64_t head_size = 0;
  bool interleaved = false;
  std::string scaling = "default";  ///< "linear", "llama3", "yarn", "longrope", "dynamic"
  RotaryScaling numbers;
};

/// Where the norms of queries and keys stand, and over what.
enum class HeadNorms {
  kNone,
  kEach,  ///< of a head's values
  kAll,   ///< of all heads' values at once
};

struct AttentionPart {
  std::string kind = "grouped";  ///< "latent", or what does not run here: "mamba", ...
  bool softmax = true;           ///< false: no attention over earlier tokens, not run here
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t key_size = 0;  ///< of a head
  int64_t value_size = 0;
  int64_t window = 0;          ///< tokens a query sees, itself included; 0: all
  int64_t chunk = 0;           ///< tokens see those of their own chunk; 0: none
  bool sinks = false;          ///< a learned logit a head
  bool gated = false;          ///< outputs times a sigmoid of the token
  bool gate_in_query = false;  ///< its map is the second half of each head of the queries'
  HeadNorms norms = HeadNorms::kNone;
  bool norm_after_rotary = false;
  bool weightless_norm = false;  ///< of each head's queries and keys, behind the positions
  /// Above 0: queries are multiplied by 1 + temperature ln(1 + floor((position + 1) /
  /// floor_scale)).
  double temperature = 0;
  int64_t floor_scale = 1;
  double clip = 0;   ///< queries, keys and values are kept within +-this; 0: they are not
  double scale = 0;  ///< of the scores; 0: key_size^-1/2
  double value_scale = 1;
  int64_t plain_size = 0;   ///< latent: values of a head that are not turned, before those that are
  int64_t latent_size = 0;  ///< latent: of keys and values
  double query_latent_scale = 1;  ///< times the normalised latent vector
  double latent_scale = 1;
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
  double limit = 0;          ///< of clamped swish
  bool interleaved = false;  ///< gate and up rows of fused matrices take turns
  RouterRule rule;
  std::vector<MixtureStorage> storages;  ///< as published first
  int64_t shared_width = 0;              ///< of what runs on every token; 0: nothing
  bool shared_gate = false;              ///< times a sigmoid of the token
  /// The shared network is the block's own, beside the mixture: published code does not count it to
  /// the mixture's output.
  bool shared_beside = false;
  bool shared_average = false;  ///< the mean of both is the output, not the sum
  std::vector<NamedShape> shared;
};

struct BlockPart {
  std::vector<AttentionPart> attention;  ///< one, or two
  /// Two attentions and two dense networks, one after the other; the mixture takes what the first
  /// network takes, and its output is added at the block's end.
  bool twofold = false;
  bool parallel = false;  ///< attention and feed-forward part take the same normalised input
  /// x = keep * x + add * part(norm(x)), with x normalised on the left, too, where so
  bool keeps_normalised = false;
  double attention_keep = 1;
  double attention_add = 1;
  double ffn_keep = 1;
  double ffn_add = 1;
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
  enum class Norm { kRms, kRmsPlusOne, kLayer };  ///< kRmsPlusOne: times 1 + weight
  Norm norm = Norm::kRms;
  double norm_eps = 1e-6;
  double embedding_scale = 1;
  double logit_scale = 1;
  std::string activation = "silu";  ///< of gated networks, as the config says it
  std::string dtype;                ///< as the config says it; empty: it does not
  std::string quantization;         ///< "fp8", "mxfp4"; empty: none
  int64_t scale_rows = 0;           ///< fp8: rows and columns of a matrix that share a scale
  int64_t scale_columns = 0;
  std::string layer_prefix = "model.layers.";
  std::vector<NamedShape> embedding;  ///< full names
  std::vector<NamedShape> head;
  std::vector<NamedShape> norms;
  std::vector<BlockPart> blocks;
};

}  // namespace moekit::published
