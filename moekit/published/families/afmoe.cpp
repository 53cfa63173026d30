// Trinity of Arcee, 2025.
#include <cmath>

#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_afmoe(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  if (config.flag("mup_enabled", false)) {
    out.embedding_scale = std::sqrt(static_cast<double>(d));
  }
  check_word(config, "score_func", {"sigmoid"});
  auto heads = usual_heads(config);
  heads.norms = HeadNorms::kEach;
  const auto dense_layers = config.integer("num_dense_layers", 0, 0);
  const auto full_every = config.integer("global_attn_every_n_layers", 4);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.gated = true;
    attention.tensors.push_back(
        {"self_attn.gate_proj.weight", {heads.heads * heads.value_size, d}, "gate"});
    const auto usual = (layer + 1) % full_every == 0 ? "full_attention" : "sliding_attention";
    if (layer_type(config, layer, usual) == "sliding_attention") {
      attention.window = config.integer("sliding_window");
      attention.rotary = rotary_positions(config, heads.key_size);
    }
    block.norms = {{"input_layernorm.weight", {d}, "attention_in"},
                   {"post_attention_layernorm.weight", {d}, "attention_out"},
                   {"pre_mlp_layernorm.weight", {d}, "ffn_in"},
                   {"post_mlp_layernorm.weight", {d}, "ffn_out"}};
    if (layer < dense_layers) {
      add_dense(block, config, d);
      return block;
    }
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_experts"}, "moe_intermediate_size"));
    mixture.rule =
        corrected_rule(weights_by(config, "route_norm", true), config.number("route_scale", 1.0));
    usual_storages(mixture, d,
                   {{"mlp.router.gate.weight", {mixture.num_experts, d}, "weight"},
                    {"mlp.expert_bias", {mixture.num_experts}, "correction"}});
    add_shared(mixture, d, "mlp.shared_experts.",
               mixture.width * config.integer("num_shared_experts", 0, 0));
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
