// Hunyuan-A13B of Tencent, 2025. Sizes of mixtures may be lists, one value a layer.
#include "moekit/core/error.h"
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {
namespace {

/// A number, or a list with one for every layer.
int64_t of_layer(const ConfigFile& config, std::string_view key, int64_t layer,
                 std::optional<int64_t> otherwise = {}, int64_t least = 1) {
  if (!config.is_list(key)) return config.integer(key, otherwise, least);
  const auto values = config.integers(key);
  if (layer >= static_cast<int64_t>(values.size())) {
    config.refuse(key, concat("has no value for layer ", layer));
  }
  const auto value = values[static_cast<size_t>(layer)];
  if (value < least) config.refuse(key, concat("at least ", least));
  return value;
}

}  // namespace

Architecture read_hunyuan_v1_moe(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kAll : Biases::kNone;
  heads.norms = config.flag("use_qk_norm", true) ? HeadNorms::kEach : HeadNorms::kNone;
  heads.query_norm = "query_layernorm";
  heads.key_norm = "key_layernorm";
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.norm_after_rotary = true;
    attention.rotary = rotary_positions(config, heads.key_size);
    block.norms = usual_norms(d);
    auto& mixture = block.mixture.emplace();
    mixture.num_experts = of_layer(config, "num_experts", layer);
    mixture.top_k = of_layer(config, "moe_topk", layer);
    mixture.width = config.integer("intermediate_size");
    mixture.rule.weights = RouterRule::Weights::kNormalised;
    usual_storages(mixture, d, {{"mlp.gate.wg.weight", {mixture.num_experts, d}, "weight"}});
    if (config.flag("use_mixed_mlp_moe", true)) {
      add_shared(mixture, d, "mlp.shared_mlp.",
                 mixture.width * of_layer(config, "num_shared_expert", layer, 1, 0));
    }
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
