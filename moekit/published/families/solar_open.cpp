// Solar Open of Upstage, 2025: a mixture in every layer, no norm of queries and keys.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_solar_open(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  const auto heads = usual_heads(config);
  out.blocks = make_blocks(config, [&](int64_t) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size);
    block.norms = usual_norms(d);
    block.mixture = deepseek_v3_mixture(config, d);
    return block;
  });
  return out;
}

}  // namespace moekit::published
