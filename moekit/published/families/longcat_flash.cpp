// Meituan 2025, LongCat-Flash Technical Report, arXiv:2509.01322: a layer has two attentions, two
// dense networks, and one mixture, some of whose experts return their input.
#include <cmath>
#include <utility>

#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_longcat_flash(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  out.blocks = make_blocks(
      config,
      [&](int64_t) {
        BlockPart block;
        block.twofold = true;
        block.dense_width = config.integer("ffn_hidden_size");
        for (const char* half : {"0", "1"}) {
          const std::string at = half;
          auto& attention =
              block.attention.emplace_back(latent_attention(config, "self_attn." + at + "."));
          // Latent vectors count as if they were as long as the token. Source: section 2.1.
          const auto scale = [&](const char* rank) {
            return std::sqrt(static_cast<double>(d) / static_cast<double>(config.integer(rank)));
          };
          if (config.has("q_lora_rank")) attention.query_latent_scale = scale("q_lora_rank");
          attention.latent_scale = scale("kv_lora_rank");
          for (auto& tensor : gated_mlp("mlps." + at + ".", d, block.dense_width)) {
            tensor.role += at;
            block.dense.push_back(std::move(tensor));
          }
          block.norms.push_back({"input_layernorm." + at + ".weight", {d}, "attention_in" + at});
          block.norms.push_back({"post_attention_layernorm." + at + ".weight", {d}, "ffn_in" + at});
        }
        auto& mixture = block.mixture.emplace();
        mixture.num_experts = config.integer("n_routed_experts");
        mixture.num_identity = config.integer("zero_expert_num", 0, 0);
        mixture.top_k = config.integer("moe_topk");
        mixture.width = config.integer("expert_ffn_hidden_size");
        mixture.rule.correction = true;
        mixture.rule.scale = config.number("routed_scaling_factor", 1.0);
        const auto all = mixture.num_experts + mixture.num_identity;
        usual_storages(mixture, d,
                       {{"mlp.router.classifier.weight", {all, d}, "weight"},
                        {"mlp.router.e_score_correction_bias", {all}, "correction"}});
        check_mixture(config, mixture);
        return block;
      },
      "num_layers");
  return out;
}

}  // namespace moekit::published
