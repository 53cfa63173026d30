// Muennighoff et al. 2024, OLMoE: Open Mixture-of-Experts Language Models, arXiv:2409.02060.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_olmoe(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kAll : Biases::kNone;
  heads.norms = HeadNorms::kAll;
  out.blocks = make_blocks(config, [&](int64_t) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.clip = config.number("clip_qkv", 0.0);
    attention.rotary = rotary_positions(config, heads.key_size);
    block.norms = usual_norms(d);
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_experts"}, "intermediate_size"));
    mixture.rule.weights = weights_by(config, "norm_topk_prob", false);
    usual_storages(mixture, d, {{"mlp.gate.weight", {mixture.num_experts, d}, "weight"}});
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
