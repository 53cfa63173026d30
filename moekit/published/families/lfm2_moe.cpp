// LFM2 of Liquid AI, 2025: layers that are no attention are short convolutions.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_lfm2_moe(const ConfigFile& config) {
  auto out = usual_architecture(config, true);
  const auto d = out.hidden_size;
  out.norms = {{"model.embedding_norm.weight", {d}, "weight"}};
  auto heads = usual_heads(config);
  heads.norms = HeadNorms::kEach;
  heads.output = "out_proj";
  heads.query_norm = "q_layernorm";
  heads.key_norm = "k_layernorm";
  const MlpNames names{"w1", "w3", "w2"};
  const auto dense_layers = config.integer("num_dense_layers", 0, 0);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    if (layer_type(config, layer, "full_attention") == "full_attention") {
      auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
      attention.rotary = rotary_positions(config, heads.key_size);
    } else {
      auto& conv = block.attention.emplace_back(not_run("short convolution"));
      conv.tensors = {{"conv.in_proj.weight", {3 * d, d}},
                      {"conv.conv.weight", {d, 1, config.integer("conv_L_cache")}},
                      {"conv.out_proj.weight", {d, d}}};
    }
    block.norms = {{"operator_norm.weight", {d}, "attention_in"},
                   {"ffn_norm.weight", {d}, "ffn_in"}};
    if (layer < dense_layers) {
      block.dense_width = config.integer("intermediate_size");
      block.dense = gated_mlp("feed_forward.", d, block.dense_width, names);
      return block;
    }
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_experts"}, "moe_intermediate_size"));
    mixture.rule.scores = RouterRule::Scores::kSigmoid;
    mixture.rule.correction = config.flag("use_expert_bias", true);
    mixture.rule.weights = weights_by(config, "norm_topk_prob", true);
    mixture.rule.scale = config.number("routed_scaling_factor", 1.0);
    std::vector<NamedShape> router{
        {"feed_forward.gate.weight", {mixture.num_experts, d}, "weight"}};
    if (mixture.rule.correction) {
      router.push_back({"feed_forward.expert_bias", {mixture.num_experts}, "correction"});
    }
    mixture.storages = {each_expert(mixture, d, "feed_forward.", router, names),
                        fused_experts(mixture, d, "feed_forward.experts.", router)};
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
