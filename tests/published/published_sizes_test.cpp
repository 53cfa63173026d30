#include <fmt/format.h>
#include <gtest/gtest.h>

#include "moekit/published/families.h"
#include "moekit/published/inventory.h"

namespace moekit::published {
namespace {

struct Published {
  const char* name;
  const char* config;  ///< the keys that its config.json has, as far as sizes need them
  const char* total;   ///< 10^9 parameters
  double active;       ///< rounded twice, to two places and to one
};

/// Sizes as another implementation counts them on models built from these configs.
constexpr Published kPublished[] = {
    {"Mixtral-8x7B",
     R"({"model_type":"mixtral","hidden_size":4096,"intermediate_size":14336,"num_hidden_layers":32,
         "num_attention_heads":32,"num_key_value_heads":8,"vocab_size":32000,
         "num_local_experts":8,"num_experts_per_tok":2})",
     "46.7", 12.9},
    {"Mixtral-8x22B",
     R"({"model_type":"mixtral","hidden_size":6144,"intermediate_size":16384,"num_hidden_layers":56,
         "num_attention_heads":48,"num_key_value_heads":8,"vocab_size":32768,
         "num_local_experts":8,"num_experts_per_tok":2})",
     "140.6", 39.2},
    {"OLMoE-1B-7B",
     R"({"model_type":"olmoe","hidden_size":2048,"intermediate_size":1024,"num_hidden_layers":16,
         "num_attention_heads":16,"num_key_value_heads":16,"vocab_size":50304,
         "num_experts":64,"num_experts_per_tok":8})",
     "6.9", 1.3},
    {"Qwen1.5-MoE-A2.7B",
     R"({"model_type":"qwen2_moe","hidden_size":2048,"intermediate_size":5632,
         "moe_intermediate_size":1408,"shared_expert_intermediate_size":5632,
         "num_hidden_layers":24,"num_attention_heads":16,"num_key_value_heads":16,
         "vocab_size":151936,"num_experts":60,"num_experts_per_tok":4})",
     "14.3", 2.7},
    {"Qwen2-57B-A14B",
     R"({"model_type":"qwen2_moe","hidden_size":3584,"intermediate_size":18944,
         "moe_intermediate_size":2560,"shared_expert_intermediate_size":20480,
         "num_hidden_layers":28,"num_attention_heads":28,"num_key_value_heads":4,
         "vocab_size":151936,"num_experts":64,"num_experts_per_tok":8})",
     "57.4", 14.3},
    {"Qwen3-30B-A3B",
     R"({"model_type":"qwen3_moe","hidden_size":2048,"intermediate_size":6144,
         "moe_intermediate_size":768,"num_hidden_layers":48,"num_attention_heads":32,
         "num_key_value_heads":4,"head_dim":128,"vocab_size":151936,"num_experts":128,
         "num_experts_per_tok":8})",
     "30.5", 3.3},
    {"Qwen3-235B-A22B",
     R"({"model_type":"qwen3_moe","hidden_size":4096,"intermediate_size":12288,
         "moe_intermediate_size":1536,"num_hidden_layers":94,"num_attention_heads":64,
         "num_key_value_heads":4,"head_dim":128,"vocab_size":151936,"num_experts":128,
         "num_experts_per_tok":8})",
     "235.1", 22.2},
    {"Qwen3-Next-80B-A3B",
     R"({"model_type":"qwen3_next","hidden_size":2048,"moe_intermediate_size":512,
         "shared_expert_intermediate_size":512,"num_hidden_layers":48,"num_attention_heads":16,
         "num_key_value_heads":2,"head_dim":256,"vocab_size":151936,"num_experts":512,
         "num_experts_per_tok":10,"linear_num_key_heads":16,"linear_key_head_dim":128,
         "linear_num_value_heads":32,"linear_value_head_dim":128,"linear_conv_kernel_dim":4})",
     "79.7", 3.9},
    {"DeepSeek-V2-Lite",
     R"({"model_type":"deepseek_v2","hidden_size":2048,"intermediate_size":10944,
         "moe_intermediate_size":1408,"num_hidden_layers":27,"num_attention_heads":16,
         "q_lora_rank":null,"kv_lora_rank":512,"qk_nope_head_dim":128,"qk_rope_head_dim":64,
         "v_head_dim":128,"n_shared_experts":2,"n_routed_experts":64,"num_experts_per_tok":6,
         "first_k_dense_replace":1,"vocab_size":102400})",
     "15.7", 2.7},
    {"DeepSeek-V2",
     R"({"model_type":"deepseek_v2","hidden_size":5120,"intermediate_size":12288,
         "moe_intermediate_size":1536,"num_hidden_layers":60,"num_attention_heads":128,
         "q_lora_rank":1536,"kv_lora_rank":512,"qk_nope_head_dim":128,"qk_rope_head_dim":64,
         "v_head_dim":128,"n_shared_experts":2,"n_routed_experts":160,"num_experts_per_tok":6,
         "first_k_dense_replace":1,"vocab_size":102400,"topk_method":"group_limited_greedy",
         "n_group":8,"topk_group":3})",
     "235.7", 21.4},
    {"DeepSeek-V3",
     R"({"model_type":"deepseek_v3","hidden_size":7168,"intermediate_size":18432,
         "moe_intermediate_size":2048,"num_hidden_layers":61,"num_attention_heads":128,
         "q_lora_rank":1536,"kv_lora_rank":512,"qk_nope_head_dim":128,"qk_rope_head_dim":64,
         "v_head_dim":128,"n_shared_experts":1,"n_routed_experts":256,"num_experts_per_tok":8,
         "first_k_dense_replace":3,"vocab_size":129280,"n_group":8,"topk_group":4,
         "quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]}})",
     "671.0", 37.6},
    {"gpt-oss-20b",
     R"({"model_type":"gpt_oss","hidden_size":2880,"intermediate_size":2880,"num_hidden_layers":24,
         "num_attention_heads":64,"num_key_value_heads":8,"head_dim":64,"vocab_size":201088,
         "num_local_experts":32,"num_experts_per_tok":4,"sliding_window":128,
         "quantization_config":{"quant_method":"mxfp4"}})",
     "20.9", 4.2},
    {"gpt-oss-120b",
     R"({"model_type":"gpt_oss","hidden_size":2880,"intermediate_size":2880,"num_hidden_layers":36,
         "num_attention_heads":64,"num_key_value_heads":8,"head_dim":64,"vocab_size":201088,
         "num_local_experts":128,"experts_per_token":4,"sliding_window":128})",
     "116.8", 5.8},
    {"Phi-3.5-MoE",
     R"({"model_type":"phimoe","hidden_size":4096,"intermediate_size":6400,"num_hidden_layers":32,
         "num_attention_heads":32,"num_key_value_heads":8,"vocab_size":32064,"attention_bias":true,
         "lm_head_bias":true,"num_local_experts":16,"num_experts_per_tok":2})",
     "41.9", 6.6},
    {"granite-3.0-1b-a400m",
     R"({"model_type":"granitemoe","hidden_size":1024,"intermediate_size":512,
         "num_hidden_layers":24,"num_attention_heads":16,"num_key_value_heads":8,
         "vocab_size":49155,"num_local_experts":32,"num_experts_per_tok":8,
         "tie_word_embeddings":true})",
     "1.3", 0.4},
    {"granite-3.0-3b-a800m",
     R"({"model_type":"granitemoe","hidden_size":1536,"intermediate_size":512,
         "num_hidden_layers":32,"num_attention_heads":24,"num_key_value_heads":8,
         "vocab_size":49155,"num_local_experts":40,"num_experts_per_tok":8,
         "tie_word_embeddings":true})",
     "3.3", 0.9},
    {"GLM-4.5-Air",
     R"({"model_type":"glm4_moe","hidden_size":4096,"intermediate_size":10944,
         "moe_intermediate_size":1408,"num_hidden_layers":46,"num_attention_heads":96,
         "num_key_value_heads":8,"head_dim":128,"attention_bias":true,"vocab_size":151552,
         "n_routed_experts":128,"n_shared_experts":1,"num_experts_per_tok":8,
         "first_k_dense_replace":1})",
     "106.9", 13.4},
    {"GLM-4.5",
     R"({"model_type":"glm4_moe","hidden_size":5120,"intermediate_size":12288,
         "moe_intermediate_size":1536,"num_hidden_layers":92,"num_attention_heads":96,
         "num_key_value_heads":8,"head_dim":128,"attention_bias":true,"vocab_size":151552,
         "n_routed_experts":160,"n_shared_experts":1,"num_experts_per_tok":8,
         "first_k_dense_replace":3,"use_qk_norm":true})",
     "352.8", 33.6},
    {"ERNIE-4.5-21B-A3B",
     R"({"model_type":"ernie4_5_moe","hidden_size":2560,"intermediate_size":12288,
         "moe_intermediate_size":1536,"num_hidden_layers":28,"num_attention_heads":20,
         "num_key_value_heads":4,"vocab_size":103424,"moe_num_experts":64,"moe_k":6,
         "moe_num_shared_experts":2,"moe_layer_start_index":1})",
     "21.8", 3.4},
    {"dots.llm1",
     R"({"model_type":"dots1","hidden_size":4096,"intermediate_size":10944,
         "moe_intermediate_size":1408,"num_hidden_layers":62,"num_attention_heads":32,
         "num_key_value_heads":32,"vocab_size":152064,"n_routed_experts":128,"n_shared_experts":2,
         "num_experts_per_tok":6,"first_k_dense_replace":1})",
     "142.8", 14.0},
    {"DBRX",
     R"({"model_type":"dbrx","d_model":6144,"n_heads":48,"n_layers":40,"vocab_size":100352,
         "attn_config":{"kv_n_heads":8,"rope_theta":500000},
         "ffn_config":{"ffn_hidden_size":10752,"moe_num_experts":16,"moe_top_k":4}})",
     "131.6", 36.5},
    {"MiniMax-M2",
     R"({"model_type":"minimax_m2","hidden_size":3072,"intermediate_size":1536,
         "num_hidden_layers":62,"num_attention_heads":48,"num_key_value_heads":8,"head_dim":128,
         "vocab_size":200064,"num_local_experts":256,"num_experts_per_tok":8})",
     "228.7", 11.0},
    {"Llama-4-Scout",
     R"({"model_type":"llama4","text_config":{"model_type":"llama4_text","hidden_size":5120,
         "intermediate_size":8192,"intermediate_size_mlp":16384,"num_hidden_layers":48,
         "num_attention_heads":40,"num_key_value_heads":8,"head_dim":128,"vocab_size":202048,
         "num_local_experts":16,"num_experts_per_tok":1}})",
     "107.8", 17.2},
    {"Llama-4-Maverick",
     R"({"model_type":"llama4","text_config":{"model_type":"llama4_text","hidden_size":5120,
         "intermediate_size":8192,"intermediate_size_mlp":16384,"num_hidden_layers":48,
         "num_attention_heads":40,"num_key_value_heads":8,"head_dim":128,"vocab_size":202048,
         "num_local_experts":128,"num_experts_per_tok":1,"interleave_moe_layer_step":2}})",
     "400.7", 17.2},
    {"Jamba-v0.1",
     R"({"model_type":"jamba","hidden_size":4096,"intermediate_size":14336,"num_hidden_layers":32,
         "num_attention_heads":32,"num_key_value_heads":8,"vocab_size":65536,"num_experts":16,
         "num_experts_per_tok":2,"attn_layer_period":8,"attn_layer_offset":4,
         "expert_layer_period":2,"expert_layer_offset":1,"mamba_d_state":16,"mamba_d_conv":4,
         "mamba_expand":2,"mamba_dt_rank":256})",
     "51.6", 12.1},
    {"Hunyuan-A13B",
     R"({"model_type":"hunyuan_v1_moe","hidden_size":4096,"intermediate_size":3072,
         "num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":128,
         "vocab_size":128167,"num_experts":64,"moe_topk":8,"tie_word_embeddings":true})",
     "80.4", 12.8},
    {"FlexOlmo-7x7B",
     R"({"model_type":"flex_olmo","hidden_size":4096,"intermediate_size":11008,
         "num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":32,
         "vocab_size":100352,"num_experts":7,"num_experts_per_tok":5})",
     "33.3", 24.6},
};

TEST(PublishedSizes, AreThoseOfTheirConfigs) {
  for (const auto& model : kPublished) {
    SCOPED_TRACE(model.name);
    const auto architecture =
        read_architecture(ConfigFile(parse_json(model.config, model.name), model.name));
    const auto inventory = take_inventory(architecture, nullptr);
    EXPECT_EQ(fmt::format("{:.1f}", static_cast<double>(inventory.parameters) / 1e9), model.total);
    EXPECT_NEAR(static_cast<double>(inventory.active_parameters) / 1e9, model.active, 0.056);
  }
}

TEST(PublishedSizes, CountPackedWeightsAsTheBytesTheyTake) {
  // gpt-oss: 32 codes in 16 bytes and a byte of scale; DeepSeek-V3: a byte a weight.
  const auto bytes_of = [](const char* name) {
    for (const auto& model : kPublished) {
      if (std::string_view(model.name) != name) continue;
      return static_cast<double>(
                 take_inventory(read_architecture(ConfigFile(parse_json(model.config, name), name)),
                                nullptr)
                     .bytes) /
             1e9;
    }
    return 0.0;
  };
  EXPECT_NEAR(bytes_of("gpt-oss-20b"), 13.8, 0.1);
  EXPECT_NEAR(bytes_of("DeepSeek-V3"), 689, 20);
}

}  // namespace
}  // namespace moekit::published
