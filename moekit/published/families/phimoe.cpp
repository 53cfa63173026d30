// Abdin et al. 2024, Phi-3 Technical Report, arXiv:2404.14219 (Phi-3.5-MoE).
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_phimoe(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  out.norm = Architecture::Norm::kLayer;
  out.norms.push_back({"model.norm.bias", {d}, "bias"});
  if (!out.head.empty() && config.flag("lm_head_bias", false)) {
    out.head.push_back({"lm_head.bias", {out.vocabulary_size}, "bias"});
  }
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kAll : Biases::kNone;
  out.blocks = make_blocks(config, [&](int64_t) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size);
    attention.window = config.integer("sliding_window", 0, 0);
    block.norms = usual_norms(d);
    block.norms.push_back({"input_layernorm.bias", {d}, "attention_in_bias"});
    block.norms.push_back({"post_attention_layernorm.bias", {d}, "ffn_in_bias"});
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_local_experts"}, "intermediate_size"));
    mixture.rule.scores = RouterRule::Scores::kLogits;
    mixture.rule.weights = RouterRule::Weights::kSparsemixer;
    mixture.rule.jitter = config.number("router_jitter_noise", 0.01);
    if (!(mixture.rule.jitter >= 0)) config.refuse("router_jitter_noise", "must be at least 0");
    if (mixture.top_k != 2) config.refuse("num_experts_per_tok", "sparsemixer takes exactly 2");
    mixtral_storages(mixture, d, "mlp.router.weight");
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
