// K-EXAONE of LG AI Research, 2026: sliding layers alone have positions.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_exaone_moe(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.norms = HeadNorms::kEach;
  const auto first_routed = config.integer("first_k_dense_replace", 0, 0);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    if (layer_type(config, layer, "full_attention") == "sliding_attention") {
      attention.window = config.integer("sliding_window");
      attention.rotary = rotary_positions(config, heads.key_size);
    }
    block.norms = usual_norms(d);
    const auto usual = layer < first_routed ? "dense" : "sparse";
    if (layer_type(config, layer, usual, "mlp_layer_types") == "dense") {
      add_dense(block, config, d);
      return block;
    }
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_experts"}, "moe_intermediate_size"));
    mixture.rule = sigmoid_rule(config, "routed_scaling_factor");
    usual_storages(mixture, d,
                   {{"mlp.gate.weight", {mixture.num_experts, d}, "weight"},
                    {"mlp.e_score_correction_bias", {mixture.num_experts}, "correction"}});
    add_shared(mixture, d, "mlp.shared_experts.",
               mixture.width * config.integer("num_shared_experts", 0, 0));
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
