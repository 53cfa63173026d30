// MiMo-V2-Flash of Xiaomi, 2025: sinks and twice the heads of keys in sliding layers.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_mimo_v2_flash(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  const auto full = [&] {
    auto heads = usual_heads(config);
    heads.value_size = config.integer("v_head_dim", heads.key_size);
    return heads;
  }();
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    const auto type = layer_type(config, layer, "full_attention");
    auto heads = full;
    const bool sliding = type == "sliding_attention";
    if (sliding) heads.kv_heads *= 2;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size, false, type);
    attention.value_scale = config.number("attention_value_scale", 1.0);
    if (sliding) {
      attention.window = config.integer("sliding_window");
      attention.sinks = true;
      attention.tensors.push_back({"self_attn.attention_sink_bias", {heads.heads}, "sinks"});
    }
    block.norms = usual_norms(d);
    if (layer_type(config, layer, "sparse", "mlp_layer_types") == "dense") {
      add_dense(block, config, d);
    } else {
      block.mixture = deepseek_v3_mixture(config, d);
    }
    return block;
  });
  return out;
}

}  // namespace moekit::published
