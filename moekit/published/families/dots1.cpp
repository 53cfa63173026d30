// Huo et al. 2025, dots.llm1 Technical Report, arXiv:2506.05767.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_dots1(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kAll : Biases::kNone;
  heads.norms = HeadNorms::kEach;
  const auto first_routed = config.integer("first_k_dense_replace", 0, 0);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size);
    if (layer_type(config, layer, "full_attention") == "sliding_attention") {
      attention.window = config.integer("sliding_window");
    }
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
