// GLM-4.5 Team 2025, GLM-4.5, arXiv:2508.06471.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_glm4_moe(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kInputs : Biases::kNone;
  heads.norms = config.flag("use_qk_norm", false) ? HeadNorms::kEach : HeadNorms::kNone;
  const auto first_routed = config.integer("first_k_dense_replace", 1, 0);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size);
    // Absent, half of each head is turned.
    const bool said = config.has("partial_rotary_factor") ||
                      config.section("rope_parameters").has("partial_rotary_factor");
    if (!said) attention.rotary->channels = heads.key_size / 2;
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

}  // namespace moekit::published
