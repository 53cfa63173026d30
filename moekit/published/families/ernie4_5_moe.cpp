// ERNIE 4.5 of Baidu, 2025.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_ernie4_5_moe(const ConfigFile& config) {
  auto out = usual_architecture(config, true);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.biases = config.flag("use_bias", false) ? Biases::kAll : Biases::kNone;
  const auto layers = config.integer("num_hidden_layers");
  const auto start = config.integer("moe_layer_start_index", 0, 0);
  const auto said = config.integer("moe_layer_end_index", -1, -1);
  const auto end = said == -1 ? layers - 1 : said;
  const auto every = config.integer("moe_layer_interval", 1);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size, true);
    block.norms = usual_norms(d);
    if (layer < start || layer > end || (layer + 1) % every != 0) {
      add_dense(block, config, d);
      return block;
    }
    auto& mixture = block.mixture.emplace();
    mixture.num_experts = config.integer("moe_num_experts");
    mixture.top_k = config.integer("moe_k");
    mixture.width = config.integer("moe_intermediate_size");
    mixture.rule.correction = true;
    mixture.rule.weights = RouterRule::Weights::kNormalised;
    const auto e = mixture.num_experts;
    usual_storages(mixture, d,
                   {{"mlp.gate.weight", {e, d}, "weight"},
                    {"mlp.moe_statics.e_score_correction_bias", {1, e}, "correction"}});
    add_shared(mixture, d, "mlp.shared_experts.",
               mixture.width * config.integer("moe_num_shared_experts", 0, 0));
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
