// Lieber et al. 2024, Jamba: A Hybrid Transformer-Mamba Language Model, arXiv:2403.19887.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {
namespace {

AttentionPart mamba_layer(const ConfigFile& config, int64_t hidden_size) {
  auto out = not_run("mamba");
  const auto d = hidden_size;
  const auto inner = config.integer("mamba_expand") * d;
  const auto states = config.integer("mamba_d_state");
  const auto rank = config.integer("mamba_dt_rank");
  out.tensors = {{"mamba.A_log", {inner, states}},
                 {"mamba.D", {inner}},
                 {"mamba.conv1d.weight", {inner, 1, config.integer("mamba_d_conv")}},
                 {"mamba.in_proj.weight", {2 * inner, d}},
                 {"mamba.out_proj.weight", {d, inner}},
                 {"mamba.x_proj.weight", {rank + 2 * states, inner}},
                 {"mamba.dt_proj.weight", {inner, rank}},
                 {"mamba.dt_proj.bias", {inner}},
                 {"mamba.dt_layernorm.weight", {rank}},
                 {"mamba.b_layernorm.weight", {states}},
                 {"mamba.c_layernorm.weight", {states}}};
  if (config.flag("mamba_conv_bias", true)) out.tensors.push_back({"mamba.conv1d.bias", {inner}});
  return out;
}

}  // namespace

Architecture read_jamba(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  out.norms = {{"model.final_layernorm.weight", {d}, "weight"}};
  const auto heads = usual_heads(config);
  const auto attention_every = config.integer("attn_layer_period");
  const auto attention_at = config.integer("attn_layer_offset", 0, 0);
  const auto experts_every = config.integer("expert_layer_period");
  const auto experts_at = config.integer("expert_layer_offset", 0, 0);
  const auto num_experts = config.integer("num_experts");
  const auto width = config.integer("intermediate_size");
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    if (layer % attention_every == attention_at) {
      block.attention.push_back(grouped_attention(heads, d));  // without positions
    } else {
      block.attention.push_back(mamba_layer(config, d));
    }
    block.norms = {{"input_layernorm.weight", {d}, "attention_in"},
                   {"pre_ff_layernorm.weight", {d}, "ffn_in"}};
    if (num_experts == 1 || layer % experts_every != experts_at) {
      block.dense_width = width;
      block.dense = gated_mlp("feed_forward.", d, width);
      return block;
    }
    auto& mixture = block.mixture.emplace();
    mixture.num_experts = num_experts;
    mixture.top_k = config.integer("num_experts_per_tok");
    mixture.width = width;
    const std::vector<NamedShape> router{
        {"feed_forward.router.weight", {num_experts, d}, "weight"}};
    mixture.storages = {each_expert(mixture, d, "feed_forward.", router),
                        fused_experts(mixture, d, "feed_forward.experts.", router)};
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
