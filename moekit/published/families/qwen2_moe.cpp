// Yang et al. 2024, Qwen2 Technical Report, arXiv:2407.10671.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_qwen2_moe(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.biases = config.flag("qkv_bias", true) ? Biases::kInputs : Biases::kNone;
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size);
    if (config.flag("use_sliding_window", false)) {
      attention.window = config.integer("sliding_window", 0, 0);
    }
    block.norms = usual_norms(d);
    if (is_dense_by_step(config, layer)) {
      add_dense(block, config, d);
      return block;
    }
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_experts"}, "moe_intermediate_size"));
    mixture.rule.weights = weights_by(config, "norm_topk_prob", false);
    usual_storages(mixture, d, {{"mlp.gate.weight", {mixture.num_experts, d}, "weight"}});
    add_shared(mixture, d, "mlp.shared_expert.", config.integer("shared_expert_intermediate_size"));
    mixture.shared_gate = true;
    mixture.shared.push_back({"mlp.shared_expert_gate.weight", {1, d}, "expert_gate"});
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
