// MiniMax-M2 of MiniMax, 2025.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_minimax_m2(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  check_word(config, "scoring_func", {"sigmoid"});
  auto heads = usual_heads(config);
  heads.norms = config.flag("use_qk_norm", true) ? HeadNorms::kAll : HeadNorms::kNone;
  out.blocks = make_blocks(config, [&](int64_t) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size);
    if (config.has("rotary_dim")) attention.rotary->channels = config.integer("rotary_dim");
    block.norms = usual_norms(d);
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_local_experts"}, "intermediate_size"));
    mixture.rule.scores = RouterRule::Scores::kSigmoid;
    mixture.rule.correction = true;
    mixture.rule.weights = RouterRule::Weights::kNormalised;
    const auto e = mixture.num_experts;
    mixture.storages = {
        each_expert(mixture, d, "block_sparse_moe.",
                    {{"block_sparse_moe.gate.weight", {e, d}, "weight"},
                     {"block_sparse_moe.e_score_correction_bias", {e}, "correction"}},
                    {"w1", "w3", "w2"}),
        fused_experts(mixture, d, "mlp.experts.",
                      {{"mlp.gate.weight", {e, d}, "weight"},
                       {"mlp.e_score_correction_bias", {e}, "correction"}})};
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
