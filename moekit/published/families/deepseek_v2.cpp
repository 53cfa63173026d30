// DeepSeek-AI 2024, DeepSeek-V2, arXiv:2405.04434.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_deepseek_v2(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  check_word(config, "scoring_func", {"softmax"});
  check_word(config, "topk_method", {"greedy", "group_limited_greedy"});
  const auto first_routed = config.integer("first_k_dense_replace", 0, 0);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    block.attention.push_back(latent_attention(config));
    block.norms = usual_norms(d);
    if (layer < first_routed) {
      add_dense(block, config, d);
      return block;
    }
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"n_routed_experts"}, "moe_intermediate_size"));
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
