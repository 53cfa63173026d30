// DBRX of Databricks, 2024: keys of its own, experts one below the other in matrices.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {

Architecture read_dbrx(const ConfigFile& config) {
  Architecture out;
  out.where = config.where();
  const auto d = config.integer("d_model");
  out.hidden_size = d;
  out.vocabulary_size = config.integer("vocab_size");
  out.context = config.integer("max_seq_len", 0, 0);
  out.tied_embeddings = config.flag("tie_word_embeddings", false);
  out.dtype = config.text("dtype", config.text("torch_dtype", ""));
  out.norm = Architecture::Norm::kLayer;
  out.norm_eps = 1e-5;  // PyTorch's, which the released code does not change
  out.layer_prefix = "transformer.blocks.";
  out.embedding = {{"transformer.wte.weight", {out.vocabulary_size, d}, "weight"}};
  if (!out.tied_embeddings) out.head = {{"lm_head.weight", {out.vocabulary_size, d}, "weight"}};
  out.norms = {{"transformer.norm_f.weight", {d}, "weight"}};
  const auto attention_keys = config.section("attn_config");
  const auto expert_keys = config.section("ffn_config");
  out.activation = expert_keys.section("ffn_act_fn").text("name", out.activation);
  const auto heads = config.integer("n_heads");
  const auto kv_heads = attention_keys.integer("kv_n_heads", 1);
  if (d % heads != 0) config.refuse("n_heads", "must divide d_model");
  if (heads % kv_heads != 0) attention_keys.refuse("kv_n_heads", "must divide n_heads");
  out.blocks = make_blocks(
      config,
      [&](int64_t) {
        BlockPart block;
        auto& attention = block.attention.emplace_back();
        attention.heads = heads;
        attention.kv_heads = kv_heads;
        attention.key_size = attention.value_size = d / heads;
        attention.clip = attention_keys.number("clip_qkv", 0.0);
        attention.rotary = rotary_positions(attention_keys, attention.key_size);
        const std::string p = "norm_attn_norm.";
        attention.tensors = {
            {p + "attn.Wqkv.weight", {d + 2 * kv_heads * attention.key_size, d}, "qkv"},
            {p + "attn.out_proj.weight", {d, d}, "o"}};
        block.norms = {{p + "norm_1.weight", {d}, "attention_in"},
                       {p + "norm_2.weight", {d}, "ffn_in"}};
        auto& mixture = block.mixture.emplace();
        mixture.num_experts = expert_keys.integer("moe_num_experts");
        mixture.top_k = expert_keys.integer("moe_top_k");
        mixture.width = expert_keys.integer("ffn_hidden_size");
        if (expert_keys.has("moe_normalize_expert_weights")) {
          mixture.rule.weights = RouterRule::Weights::kNormalised;
          mixture.rule.norm_power = expert_keys.number("moe_normalize_expert_weights");
        }
        const std::vector<int64_t> flat{mixture.num_experts * mixture.width, d};
        MixtureStorage storage;
        storage.kind = "flattened, [E * F, D]";
        storage.router = {{"ffn.router.layer.weight", {mixture.num_experts, d}, "weight"}};
        storage.all = {{"ffn.experts.mlp.w1", flat, "gate_flat"},
                       {"ffn.experts.mlp.v1", flat, "up_flat"},
                       {"ffn.experts.mlp.w2", flat, "down_flat"}};
        mixture.storages = {storage};
        check_mixture(config, mixture);
        return block;
      },
      "n_layers");
  return out;
}

}  // namespace moekit::published
