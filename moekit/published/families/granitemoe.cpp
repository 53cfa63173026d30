// Granite 3.0 and 4.0 of IBM, 2024 and 2025: scores are a softmax of those chosen; the shared form
// adds a network that runs on every token, the hybrid one layers that are Mamba 2.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {
namespace {

MixturePart granite_mixture(const ConfigFile& config, int64_t hidden_size) {
  MixturePart out;
  const auto d = hidden_size;
  out.num_experts = config.integer("num_local_experts");
  out.top_k = config.integer("num_experts_per_tok");
  out.width = config.integer("intermediate_size");
  out.rule.scores = RouterRule::Scores::kLogits;
  out.rule.weights = RouterRule::Weights::kSoftmaxOfChosen;
  const auto e = out.num_experts;
  MixtureStorage published;
  published.kind = "fused, [E, out, in]";
  published.router = {{"block_sparse_moe.router.layer.weight", {e, d}, "weight"}};
  published.all = {{"block_sparse_moe.input_linear.weight", {e, 2 * out.width, d}, "gate_up"},
                   {"block_sparse_moe.output_linear.weight", {e, d, out.width}, "down"}};
  out.storages = {published, fused_experts(out, d, "block_sparse_moe.experts.",
                                           {{"block_sparse_moe.router.weight", {e, d}, "weight"}})};
  check_mixture(config, out);
  return out;
}

/// Gate and up are one matrix.
std::vector<NamedShape> joined_mlp(int64_t hidden_size, int64_t width) {
  return {{"shared_mlp.input_linear.weight", {2 * width, hidden_size}, "gate_up"},
          {"shared_mlp.output_linear.weight", {hidden_size, width}, "down"}};
}

AttentionPart mamba2_layer(const ConfigFile& config, int64_t hidden_size) {
  auto out = not_run("mamba");
  const auto heads = config.integer("mamba_n_heads");
  const auto inner = config.integer("mamba_expand") * hidden_size;
  const auto states = config.integer("mamba_n_groups") * config.integer("mamba_d_state");
  const auto channels = inner + 2 * states;
  out.tensors = {{"mamba.A_log", {heads}},
                 {"mamba.D", {heads}},
                 {"mamba.dt_bias", {heads}},
                 {"mamba.norm.weight", {inner}},
                 {"mamba.in_proj.weight", {inner + channels + heads, hidden_size}},
                 {"mamba.out_proj.weight", {hidden_size, inner}},
                 {"mamba.conv1d.weight", {channels, 1, config.integer("mamba_d_conv")}}};
  if (config.flag("mamba_conv_bias", true))
    out.tensors.push_back({"mamba.conv1d.bias", {channels}});
  return out;
}

Architecture read_granite(const ConfigFile& config, bool shared, bool hybrid) {
  auto out = usual_architecture(config, true);
  const auto d = out.hidden_size;
  out.embedding_scale = config.number("embedding_multiplier", 1.0);
  const double divisor = config.number("logits_scaling", 1.0);
  if (divisor == 0) config.refuse("logits_scaling", "must not be 0");
  out.logit_scale = 1 / divisor;
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kAll : Biases::kNone;
  const bool positions = !hybrid || config.text("position_embedding_type", "rope") == "rope";
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    const auto type = hybrid ? layer_type(config, layer, "mamba") : "attention";
    if (type == "mamba") {
      block.attention.push_back(mamba2_layer(config, d));
    } else {
      auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
      attention.scale = config.number("attention_multiplier", 1.0);
      if (positions) attention.rotary = rotary_positions(config, heads.key_size);
    }
    block.norms = usual_norms(d);
    block.attention_add = block.ffn_add = config.number("residual_multiplier", 1.0);
    // Hybrid models without experts have the shared network alone.
    const auto shared_width = shared ? config.integer("shared_intermediate_size", 0, 0) : 0;
    if (hybrid && config.integer("num_local_experts", 0, 0) == 0) {
      block.dense_width = shared_width;
      block.dense = joined_mlp(d, shared_width);
      return block;
    }
    auto& mixture = block.mixture.emplace(granite_mixture(config, d));
    if (shared_width > 0) {
      mixture.shared_width = shared_width;
      mixture.shared_beside = true;
      mixture.shared = joined_mlp(d, shared_width);
    }
    return block;
  });
  return out;
}

}  // namespace

Architecture read_granitemoe(const ConfigFile& config) {
  return read_granite(config, false, false);
}
Architecture read_granitemoeshared(const ConfigFile& config) {
  return read_granite(config, true, false);
}
Architecture read_granitemoehybrid(const ConfigFile& config) {
  return read_granite(config, true, true);
}

}  // namespace moekit::published
