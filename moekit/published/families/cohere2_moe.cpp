// Command A's mixture of Cohere, 2026: attention and experts beside each other behind one norm.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_cohere2_moe(const ConfigFile& config) {
  auto out = usual_architecture(config, true);
  const auto d = out.hidden_size;
  out.norm = Architecture::Norm::kLayer;
  out.norm_eps = config.number("layer_norm_eps", 1e-5);
  out.logit_scale = config.number("logit_scale", 1.0);
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kAll : Biases::kNone;
  const auto full_every = config.integer("sliding_window_pattern", 4);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    const auto usual = (layer + 1) % full_every == 0 ? "full_attention" : "sliding_attention";
    if (layer_type(config, layer, usual) == "sliding_attention") {
      attention.window = config.integer("sliding_window");
      attention.rotary = rotary_positions(config, heads.key_size, true);
    }
    block.norms = {{"input_layernorm.weight", {d}, "attention_in"}};
    block.parallel = true;
    if (layer_type(config, layer, "sparse", "mlp_layer_types") == "dense") {
      // Full ones, too: inferred from what another implementation computes.
      attention.rotary = rotary_positions(config, heads.key_size, true);
      block.dense_width = config.integer({"prefix_dense_intermediate_size", "intermediate_size"});
      block.dense = gated_mlp("mlp.", d, block.dense_width);
      return block;
    }
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_experts"}, "intermediate_size"));
    if (config.text("expert_selection_fn", "softmax") == "sigmoid") {
      mixture.rule.scores = RouterRule::Scores::kSigmoid;
      mixture.rule.weights = weights_by(config, "norm_topk_prob", false);
    } else {
      mixture.rule.scores = RouterRule::Scores::kLogits;
      mixture.rule.weights = RouterRule::Weights::kSoftmaxOfChosen;
    }
    usual_storages(mixture, d, {{"mlp.gate.weight", {mixture.num_experts, d}, "weight"}});
    add_shared(mixture, d, "mlp.shared_experts.",
               mixture.width * config.integer("num_shared_experts", 0, 0));
    mixture.shared_average = config.text("shared_expert_combination_strategy", "sum") == "average";
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
