#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/published/architecture.h"
#include "moekit/published/config_file.h"

/// What families share: the parts of an architecture out of a config's usual keys.
namespace moekit::published {

/// hidden_size, vocab_size, max_position_embeddings, tie_word_embeddings, dtype and quantization,
/// with "model.embed_tokens", "model.norm" and, where it is not the embedding, "lm_head".
Architecture usual_architecture(const ConfigFile& config, bool tied_by_default = false);

/// num_hidden_layers times `make`; at most 10,000.
std::vector<BlockPart> make_blocks(const ConfigFile& config,
                                   const std::function<BlockPart(int64_t layer)>& make,
                                   std::string_view key = "num_hidden_layers");

enum class Biases { kNone, kInputs, kAll };
struct GroupedAttention {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t key_size = 0;
  int64_t value_size = 0;
  Biases biases = Biases::kNone;
  HeadNorms norms = HeadNorms::kNone;
  std::string prefix = "self_attn.";
  std::string output = "o_proj";
  std::string query_norm = "q_norm";
  std::string key_norm = "k_norm";
  bool gate_in_query = false;  ///< q_proj gives as many values again, which gate the output
};
/// num_attention_heads, num_key_value_heads (absent: as many), head_dim (absent: their share of D).
/// @throws FormatError for heads that do not divide.
GroupedAttention usual_heads(const ConfigFile& config);
AttentionPart grouped_attention(const GroupedAttention& heads, int64_t hidden_size);

/// DeepSeek's attention over latent vectors: q_lora_rank (null: none), kv_lora_rank,
/// qk_nope_head_dim, qk_rope_head_dim, v_head_dim.
AttentionPart latent_attention(const ConfigFile& config, const std::string& prefix = "self_attn.");

/// rope_parameters, or rope_theta, rope_scaling and partial_rotary_factor.
/// @param section  of rope_parameters, for layers that have positions of their own
RotaryPositions rotary_positions(const ConfigFile& config, int64_t head_size,
                                 bool interleaved = false, const std::string& section = "");

/// What layer `layer` is by layer_types; `otherwise` where that is absent.
/// @throws FormatError for a list that is too short.
std::string layer_type(const ConfigFile& config, int64_t layer, const std::string& otherwise,
                       std::string_view key = "layer_types");

/// A layer that is no attention, with nothing known of its tensors.
AttentionPart not_run(const std::string& kind);

struct MlpNames {
  std::string gate = "gate_proj";
  std::string up = "up_proj";
  std::string down = "down_proj";
};
/// Roles "gate", "up", "down": {prefix}{gate,up}.weight [width, D], {prefix}{down}.weight [D,
/// width].
std::vector<NamedShape> gated_mlp(const std::string& prefix, int64_t hidden_size, int64_t width,
                                  const MlpNames& names = {});

/// Of a mixture with E, K and width filled in: tensors of every expert under
/// "{prefix}experts.{e}.", the router's at `router`.
MixtureStorage each_expert(const MixturePart& mixture, int64_t hidden_size,
                           const std::string& prefix, std::vector<NamedShape> router,
                           const MlpNames& names = {});
/// {prefix}gate_up_proj [E, 2 width, D] and {prefix}down_proj [E, D, width].
MixtureStorage fused_experts(const MixturePart& mixture, int64_t hidden_size,
                             const std::string& prefix, std::vector<NamedShape> router);
/// The same with inputs before outputs: [E, D, 2 width] and [E, width, D].
MixtureStorage fused_by_input(const MixturePart& mixture, int64_t hidden_size,
                              const std::string& prefix, std::vector<NamedShape> router);

/// Experts under "mlp.", each a tensor or fused, as most families have them. `router` is behind
/// the layer's prefix.
void usual_storages(MixturePart& mixture, int64_t hidden_size, std::vector<NamedShape> router);

/// Mixtral's: "w1", "w3", "w2" of every expert under "block_sparse_moe.", or fused under "mlp.",
/// whose router is `fused_router`.
void mixtral_storages(MixturePart& mixture, int64_t hidden_size, const std::string& fused_router);

/// E under the first of `experts` that is there, K under num_experts_per_tok, the width under
/// `width`.
MixturePart sized_mixture(const ConfigFile& config, std::initializer_list<std::string_view> experts,
                          std::string_view width);

/// Qwen's rule: dense where mlp_only_layers has the layer, or decoder_sparse_step passes it by.
bool is_dense_by_step(const ConfigFile& config, int64_t layer);

/// Of a block without a mixture: "mlp." of intermediate_size.
void add_dense(BlockPart& block, const ConfigFile& config, int64_t hidden_size);

/// The shared network under `prefix`.
void add_shared(MixturePart& mixture, int64_t hidden_size, const std::string& prefix,
                int64_t width);

/// E, K and width checked: 1..65,536 experts, 1 <= K <= E.
/// @throws FormatError naming `experts` and `top_k`.
void check_mixture(const ConfigFile& config, const MixturePart& mixture);

/// Sigmoid scores, a bias for the choice, groups, weights by norm_topk_prob and
/// routed_scaling_factor: DeepSeek-V3's router and those after it.
RouterRule sigmoid_rule(const ConfigFile& config, const std::string& scale_key);

/// @throws FormatError where the key is there and has none of these words: what it would ask for is
///         not computed
void check_word(const ConfigFile& config, std::string_view key,
                std::initializer_list<std::string_view> known);

/// Sigmoid scores, and a bias for the choice.
RouterRule corrected_rule(RouterRule::Weights weights, double scale);
/// Normalised where the key says so, else the scores.
RouterRule::Weights weights_by(const ConfigFile& config, std::string_view key, bool otherwise);

/// "input_layernorm" and "post_attention_layernorm".
std::vector<NamedShape> usual_norms(int64_t hidden_size);

}  // namespace moekit::published
