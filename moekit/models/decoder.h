#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <string>
#include <vector>

#include "moekit/core/field_rule.h"
#include "moekit/core/kinds.h"
#include "moekit/nn/capacity.h"
#include "moekit/nn/expert_kinds.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/low_rank_mixture.h"
#include "moekit/nn/multi_head_moe.h"
#include "moekit/nn/rms_norm.h"
#include "moekit/nn/rotary.h"
#include "moekit/nn/routed_layer.h"
#include "moekit/nn/router_kinds.h"

namespace moekit::models {

/// A decoder for text as a recipe says it: blocks of attention and of a feed-forward layer that is
/// one network, or any mixture.
struct DecoderConfig {
  /// Feed-forward layers are gated and without biases, routers without biases of two experts a
  /// token.
  DecoderConfig();

  int64_t hidden_size = 128;
  int64_t num_layers = 4;
  int64_t num_heads = 4;
  int64_t num_kv_heads = 0;
  int64_t head_size = 0;
  int64_t context = 256;
  double rope_theta = 10000;
  bool qk_norm = false;
  bool tied_embeddings = true;
  double norm_eps = 1e-5;
  double init_std = 0.02;
  nn::WeightLevels attention_weights = nn::WeightLevels::kFloat;
  nn::MlpExpertsOptions dense;
  int64_t first_routed = 0;
  int64_t routed_every = 1;
  int64_t num_experts = 8;
  int64_t num_shared = 0;
  nn::CapacityOptions capacity;
  nn::MultiHeadOptions multi_head;
  KindSection<nn::ExpertKinds> expert;
  KindSection<nn::RouterKinds> router;
  nn::LowRankOptions adapters;

  template <typename Field>
  void visit(Field&& field) {
    field("hidden_size", hidden_size, "D of a token", at_least(1));
    field("num_layers", num_layers, "blocks of attention and a feed-forward layer", at_least(1));
    field("num_heads", num_heads, "of the attention", at_least(1));
    field("num_kv_heads", num_kv_heads, "heads of keys and values, divides num_heads; 0: as many",
          at_least(0));
    field("head_size", head_size, "of a head, even; 0: hidden_size / num_heads", at_least(0));
    field("context", context, "tokens a text has at most", at_least(1));
    field("rope_theta", rope_theta, "base of the rotary positions", above(0));
    field("qk_norm", qk_norm, "queries and keys of each head are normalised");
    field("tied_embeddings", tied_embeddings, "the output's matrix is the embedding's");
    field("norm_eps", norm_eps, "of the normalisations", at_least(0));
    field("init_std", init_std, "deviation of the first embeddings and attention's weights",
          above(0));
    field("attention_weights", attention_weights,
          "levels its maps' weights are rounded to in forward passes, inputs to 8 bits (BitNet)");
    field("dense", dense, "feed-forward layer of blocks without a mixture");
    field("first_routed", first_routed, "blocks before it have no mixture", at_least(0));
    field("routed_every", routed_every, "from there on every n-th block has one; 0: none",
          at_least(0));
    field("num_experts", num_experts, "E of a mixture", at_least(1));
    field("num_shared", num_shared, "experts of a mixture that run on every token", at_least(0));
    capacity.visit(field);
    multi_head.visit(field);
    field("expert", expert, "");
    field("router", router, "");
    field("adapters", adapters, "");
  }

  int64_t kv_heads() const { return num_kv_heads == 0 ? num_heads : num_kv_heads; }
  int64_t dim_of_head() const { return head_size == 0 ? hidden_size / num_heads : head_size; }
  /// Values that an expert takes and gives.
  int64_t expert_dim() const { return hidden_size / multi_head.token_heads(); }
  bool routed(int64_t layer) const {
    return routed_every > 0 && layer >= first_routed && (layer - first_routed) % routed_every == 0;
  }
};

/// @throws ArgumentError naming the key.
void check_decoder(const DecoderConfig& config, int64_t vocabulary_size, const std::string& where);

/// What earlier tokens left behind for later ones: keys and values of every block.
class DecoderCache {
 public:
  /// Room for `capacity` positions of `batch` texts.
  DecoderCache(const DecoderConfig& config, int64_t batch, int64_t capacity);
  int64_t length() const { return length_; }
  int64_t capacity() const { return keys_.front().size(1); }

 private:
  friend class DecoderBlockImpl;
  friend class DecoderImpl;
  std::vector<torch::Tensor> keys_, values_;  ///< [B, capacity, Hk, d] for each block
  int64_t length_ = 0;
};

/// Behind the name of a map, the name of the adapter beside it.
inline constexpr const char* kAdapterSuffix = "_adapter";

struct DecoderOutput {
  torch::Tensor hidden;  ///< [B, T, D], normalised, what the head takes
  torch::Tensor logits;  ///< [B, T, V]; undefined where hidden is all that was asked
  std::vector<nn::LayerRouting> layers;  ///< of the mixtures
};

class DecoderBlockImpl;

/// A decoder-only language model: pre-normalised blocks, rotary positions, grouped heads.
/// Source: Vaswani et al. 2017, arXiv:1706.03762, with the changes of Touvron et al. 2023,
/// arXiv:2302.13971, section 2.2.
class DecoderImpl : public torch::nn::Cloneable<DecoderImpl> {
 public:
  /// @throws ArgumentError see check_decoder()
  DecoderImpl(DecoderConfig config, int64_t vocabulary_size);
  void reset() override;
  /// Draws all weights anew, routers and all others from streams of their own.
  void reset_parameters(uint64_t router_seed, uint64_t experts_seed);

  /// @param ids [B, T] int64 @param context  its mask [B, T] says which tokens are there; its task
  /// ids and generator go to the routers
  /// @param first  [B, T] int32 see AttentionSettings; undefined: the text's begin
  /// @throws ArgumentError for an id that is not in the vocabulary or more tokens than the context
  DecoderOutput forward(const torch::Tensor& ids, const nn::RouterContext& context,
                        const torch::Tensor& first = {});
  /// The same without logits, for losses that make them block by block of tokens
  /// (nn/linear_cross_entropy.h) out of `hidden` and head_weight().
  DecoderOutput forward_hidden(const torch::Tensor& ids, const nn::RouterContext& context,
                               const torch::Tensor& first = {});
  /// [V, D], the embedding's where they are tied.
  const torch::Tensor& head_weight() const { return head_.defined() ? head_ : embedding_; }
  /// The same for tokens after those that `cache` has; they are added to it.
  DecoderOutput forward_cached(const torch::Tensor& ids, const nn::RouterContext& context,
                               DecoderCache& cache);

  const DecoderConfig& config() const { return config_; }
  int64_t vocabulary_size() const { return vocabulary_size_; }

 private:
  DecoderOutput run(const torch::Tensor& ids, nn::RouterContext context, const torch::Tensor& first,
                    DecoderCache* cache);
  DecoderOutput with_logits(DecoderOutput output) const;
  void register_all();

  DecoderConfig config_;
  int64_t vocabulary_size_;
  torch::Tensor embedding_;  ///< [V, D]
  torch::Tensor head_;       ///< [V, D], undefined where it is the embedding
  nn::RmsNorm norm_{nullptr};
  nn::RotaryTable rotary_;
  std::vector<std::shared_ptr<DecoderBlockImpl>> blocks_;
};
TORCH_MODULE(Decoder);

}  // namespace moekit::models
