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
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_local_experts"}, "intermediate_size"));
    mixture.rule.weights = RouterRule::Weights::kNormalised;
    mixtral_storages(mixture, d, "mlp.gate.weight");
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
