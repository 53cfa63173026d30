// Qwen3-Next and Qwen3.5 of the Qwen team, 2025: three of four layers are gated delta networks.
#include "moekit/core/error.h"
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {
namespace {

/// A layer of a gated delta network, by the tensors of its projections.
AttentionPart delta_layer(const ConfigFile& config, int64_t hidden_size, bool split) {
  auto out = not_run("gated delta network");
  const auto keys = config.integer("linear_num_key_heads") * config.integer("linear_key_head_dim");
  const auto value_heads = config.integer("linear_num_value_heads");
  const auto value_size = config.integer("linear_value_head_dim");
  const auto values = value_heads * value_size;
  const auto d = hidden_size;
  const auto channels = 2 * keys + values;
  out.tensors = {
      {"linear_attn.A_log", {value_heads}},
      {"linear_attn.conv1d.weight", {channels, 1, config.integer("linear_conv_kernel_dim")}},
      {"linear_attn.dt_bias", {value_heads}},
      {"linear_attn.norm.weight", {value_size}},
      {"linear_attn.out_proj.weight", {d, values}}};
  if (split) {
    out.tensors.push_back({"linear_attn.in_proj_qkv.weight", {channels, d}});
    out.tensors.push_back({"linear_attn.in_proj_z.weight", {values, d}});
    out.tensors.push_back({"linear_attn.in_proj_b.weight", {value_heads, d}});
    out.tensors.push_back({"linear_attn.in_proj_a.weight", {value_heads, d}});
  } else {
    out.tensors.push_back({"linear_attn.in_proj_qkvz.weight", {channels + values, d}});
    out.tensors.push_back({"linear_attn.in_proj_ba.weight", {2 * value_heads, d}});
  }
  return out;
}

Architecture read_qwen_next(const ConfigFile& config, bool split, bool always_normalised) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  out.norm = Architecture::Norm::kRmsPlusOne;
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", false) ? Biases::kAll : Biases::kNone;
  heads.norms = HeadNorms::kEach;
  heads.gate_in_query = true;
  const auto full_every = config.integer("full_attention_interval", 4);
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    const auto usual = (layer + 1) % full_every == 0 ? "full_attention" : "linear_attention";
    if (layer_type(config, layer, usual) == "full_attention") {
      auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
      attention.rotary = rotary_positions(config, heads.key_size);
      // Absent, a quarter of each head is turned.
      const bool said = config.has("partial_rotary_factor") ||
                        config.section("rope_parameters").has("partial_rotary_factor");
      if (!said) attention.rotary->channels = heads.key_size / 4;
    } else {
      block.attention.push_back(delta_layer(config, d, split));
    }
    block.norms = usual_norms(d);
    auto& mixture =
        block.mixture.emplace(sized_mixture(config, {"num_experts"}, "moe_intermediate_size"));
    mixture.rule.weights = always_normalised ? RouterRule::Weights::kNormalised
                                             : weights_by(config, "norm_topk_prob", true);
    usual_storages(mixture, d, {{"mlp.gate.weight", {mixture.num_experts, d}, "weight"}});
    add_shared(mixture, d, "mlp.shared_expert.", config.integer("shared_expert_intermediate_size"));
    mixture.shared_gate = true;
    mixture.shared.push_back({"mlp.shared_expert_gate.weight", {1, d}, "expert_gate"});
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace

Architecture read_qwen3_next(const ConfigFile& config) {
  return read_qwen_next(config, false, false);
}
Architecture read_qwen3_5_moe(const ConfigFile& config) {
  return read_qwen_next(config, true, true);
}

}  // namespace moekit::published
