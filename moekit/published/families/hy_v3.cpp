// Hunyuan 3 of Tencent, 2026.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_hy_v3(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kAll : Biases::kNone;
  heads.norms = HeadNorms::kEach;
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size);
    block.norms = usual_norms(d);
    if (layer_type(config, layer, layer == 0 ? "dense" : "sparse", "mlp_layer_types") == "dense") {
      add_dense(block, config, d);
      return block;
    }
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_experts"}, "moe_intermediate_size"));
    mixture.rule = corrected_rule(RouterRule::Weights::kNormalised,
                                  config.number("router_scaling_factor", 1.0));
    usual_storages(mixture, d,
                   {{"mlp.router.gate.weight", {mixture.num_experts, d}, "weight"},
                    {"mlp.expert_bias", {mixture.num_experts}, "correction"}});
    add_shared(mixture, d, "mlp.shared_mlp.",
               mixture.width * config.integer("num_shared_experts", 0, 0));
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
