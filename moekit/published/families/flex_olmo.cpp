// Shi et al. 2025, FlexOlmo: Open Language Models for Flexible Data Use, arXiv:2507.07024.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

/// OLMoE with norms behind each part of a block and none before.
Architecture read_flex_olmo(const ConfigFile& config) {
  auto out = read_olmoe(config);
  for (auto& block : out.blocks) {
    block.norms = {{"post_attention_layernorm.weight", {out.hidden_size}, "attention_out"},
                   {"post_feedforward_layernorm.weight", {out.hidden_size}, "ffn_out"}};
  }
  return out;
}

}  // namespace moekit::published
