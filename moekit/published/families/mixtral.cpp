// Jiang et al. 2024, Mixtral of Experts, arXiv:2401.04088.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_mixtral(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  const auto heads = usual_heads(config);
  out.blocks = make_blocks(config, [&](int64_t) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size);
    attention.window = config.integer("sliding_window", 0, 0);
    block.norms = usual_norms(d);
    auto& mixture = block.mixture.emplace();
    mixture.num_experts = config.integer("num_local_experts");
    mixture.top_k = config.integer("num_experts_per_tok");
    mixture.width = config.integer("intermediate_size");
    mixture.rule.weights = RouterRule::Weights::kNormalised;
    const auto e = mixture.num_experts;
    mixture.storages = {
        each_expert(mixture, d, "block_sparse_moe.",
                    {{"block_sparse_moe.gate.weight", {e, d}, "weight"}}, {"w1", "w3", "w2"}),
        fused_experts(mixture, d, "mlp.experts.", {{"mlp.gate.weight", {e, d}, "weight"}})};
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
