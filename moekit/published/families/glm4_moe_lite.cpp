// GLM-4.7-Flash of Z.ai, 2026: DeepSeek-V3's attention and router.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_glm4_moe_lite(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    block.attention.push_back(latent_attention(config));
    block.norms = usual_norms(d);
    // Absent, the first layer alone is dense.
    if (layer_type(config, layer, layer == 0 ? "dense" : "sparse", "mlp_layer_types") == "dense") {
      add_dense(block, config, d);
    } else {
      block.mixture = deepseek_v3_mixture(config, d);
    }
    return block;
  });
  return out;
}

}  // namespace moekit::published
