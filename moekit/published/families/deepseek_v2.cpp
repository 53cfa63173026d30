// DeepSeek-AI 2024, DeepSeek-V2, arXiv:2405.04434.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_deepseek_v2(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  const auto first_routed = config.integer("first_k_dense_replace", 0, 0);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    block.attention.push_back(latent_attention(config));
    block.norms = usual_norms(d);
    if (layer < first_routed) {
      block.dense_width = config.integer("intermediate_size");
      block.dense = gated_mlp("mlp.", d, block.dense_width);
      return block;
    }
    auto& mixture = block.mixture.emplace();
    mixture.num_experts = config.integer("n_routed_experts");
    mixture.top_k = config.integer("num_experts_per_tok");
    mixture.width = config.integer("moe_intermediate_size");
    mixture.rule.scale = config.number("routed_scaling_factor", 1.0);
    if (config.text("topk_method", "greedy") == "group_limited_greedy") {
      mixture.rule.num_groups = config.integer("n_group", 1);
      mixture.rule.kept_groups = config.integer("topk_group", 1);
    }
    usual_storages(mixture, d, {{"mlp.gate.weight", {mixture.num_experts, d}, "weight"}});
    add_shared(mixture, d, "mlp.shared_experts.",
               mixture.width * config.integer("n_shared_experts", 0, 0));
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
