// MiniMax 2025, MiniMax-01: Scaling Foundation Models with Lightning Attention, arXiv:2501.08313.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {
namespace {

AttentionPart lightning_layer(const GroupedAttention& heads, int64_t hidden_size) {
  auto out = not_run("lightning attention");
  const auto inner = heads.heads * heads.key_size;
  out.tensors = {{"self_attn.qkv_proj.weight", {3 * inner, hidden_size}},
                 {"self_attn.out_proj.weight", {hidden_size, inner}},
                 {"self_attn.output_gate.weight", {inner, hidden_size}},
                 {"self_attn.norm.weight", {inner}}};
  return out;
}

}  // namespace

Architecture read_minimax(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  const auto heads = usual_heads(config);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    const auto usual = layer % 2 == 1 ? "full_attention" : "linear_attention";
    if (layer_type(config, layer, usual) == "full_attention") {
      auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
      attention.rotary = rotary_positions(config, heads.key_size);
    } else {
      block.attention.push_back(lightning_layer(heads, d));
    }
    block.norms = usual_norms(d);
    block.keeps_normalised = true;
    block.attention_keep = config.number("full_attn_alpha_factor", 1.0);
    block.attention_add = config.number("full_attn_beta_factor", 1.0);
    block.ffn_keep = config.number("mlp_alpha_factor", 1.0);
    block.ffn_add = config.number("mlp_beta_factor", 1.0);
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_local_experts"}, "intermediate_size"));
    mixture.rule.weights = RouterRule::Weights::kNormalised;
    mixtral_storages(mixture, d, "mlp.gate.weight");
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
