// Llama 4 of Meta, 2025: the text part.
#include <algorithm>

#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_llama4(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kAll : Biases::kNone;
  const auto rotary_in = config.integers("no_rope_layers");  // 1: rotary; every 4th has none
  const auto routed = config.integers("moe_layers");
  const auto every = config.integer("interleave_moe_layer_step", 1);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    const bool rotary = layer < static_cast<int64_t>(rotary_in.size())
                            ? rotary_in[static_cast<size_t>(layer)] != 0
                            : (layer + 1) % 4 != 0;
    if (rotary) {
      attention.rotary = rotary_positions(config, heads.key_size, true);
      attention.weightless_norm = config.flag("use_qk_norm", true);
    } else if (config.flag("attn_temperature_tuning", true)) {
      attention.temperature = config.number("attn_scale", 0.1);
      attention.floor_scale = config.integer("floor_scale", 8192);
    }
    const auto usual = rotary ? "chunked_attention" : "full_attention";
    if (layer_type(config, layer, usual) == "chunked_attention") {
      attention.chunk = config.integer("attention_chunk_size", 0, 0);
    }
    block.norms = usual_norms(d);
    const bool sparse = routed.empty()
                            ? (layer + 1) % every == 0
                            : std::find(routed.begin(), routed.end(), layer) != routed.end();
    if (!sparse) {
      block.dense_width = config.integer("intermediate_size_mlp");
      block.dense = gated_mlp("feed_forward.", d, block.dense_width);
      return block;
    }
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_local_experts"}, "intermediate_size"));
    mixture.rule.scores = RouterRule::Scores::kLogits;
    mixture.rule.weights = RouterRule::Weights::kSigmoid;
    mixture.rule.on_input = true;
    mixture.storages = {
        fused_by_input(mixture, d, "feed_forward.experts.",
                       {{"feed_forward.router.weight", {mixture.num_experts, d}, "weight"}})};
    add_shared(mixture, d, "feed_forward.shared_expert.", mixture.width);
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
