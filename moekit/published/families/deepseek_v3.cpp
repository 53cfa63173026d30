// DeepSeek-AI 2024, DeepSeek-V3 Technical Report, arXiv:2412.19437.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_deepseek_v3(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  const auto first_routed = config.integer("first_k_dense_replace", 0, 0);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    block.attention.push_back(latent_attention(config));
    block.norms = usual_norms(d);
    if (layer < first_routed) {
      add_dense(block, config, d);
    } else {
      block.mixture = deepseek_v3_mixture(config, d);
    }
    return block;
  });
  return out;
}

MixturePart deepseek_v3_mixture(const ConfigFile& config, int64_t hidden_size) {
  MixturePart out;
  const auto d = hidden_size;
  out.num_experts = config.integer("n_routed_experts");
  out.top_k = config.integer("num_experts_per_tok");
  out.width = config.integer("moe_intermediate_size");
  out.rule = sigmoid_rule(config, "routed_scaling_factor");
  usual_storages(out, d,
                 {{"mlp.gate.weight", {out.num_experts, d}, "weight"},
                  {"mlp.gate.e_score_correction_bias", {out.num_experts}, "correction"}});
  add_shared(out, d, "mlp.shared_experts.", out.width * config.integer("n_shared_experts", 0, 0));
  check_mixture(config, out);
  return out;
}

}  // namespace moekit::published
