#include "moekit/published/parts.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "moekit/core/error.h"
#include "moekit/published/rotary_scaling.h"

namespace moekit::published {
namespace {

// Hostile configs must not make lists without end.
constexpr int64_t kMostLayers = 10'000;
constexpr int64_t kMostExperts = 65'536;

/// A matrix, and its bias.
void add_linear(std::vector<NamedShape>& to, const std::string& role, const std::string& name,
                int64_t outputs, int64_t inputs, bool bias) {
  to.push_back({name + ".weight", {outputs, inputs}, role});
  if (bias) to.push_back({name + ".bias", {outputs}, role + "_bias"});
}

std::optional<double> maybe_number(const ConfigFile& values, std::string_view key) {
  if (!values.has(key)) return std::nullopt;
  return values.number(key);
}

RotaryScaling rotary_numbers(const ConfigFile& config, const ConfigFile& values) {
  RotaryScaling out;
  out.factor = values.number("factor", 1.0);
  if (!(out.factor >= 1)) values.refuse("factor", "must be at least 1");
  out.original_context =
      values.integer("original_max_position_embeddings",
                     config.integer("original_max_position_embeddings",
                                    config.integer("max_position_embeddings", 0, 0), 0));
  out.low_freq_factor = values.number("low_freq_factor", out.low_freq_factor);
  out.high_freq_factor = values.number("high_freq_factor", out.high_freq_factor);
  out.beta_fast = values.number("beta_fast", out.beta_fast);
  out.beta_slow = values.number("beta_slow", out.beta_slow);
  for (const char* key : {"low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow"}) {
    if (values.has(key) && !(values.number(key) > 0)) values.refuse(key, "must be above 0");
  }
  if (out.high_freq_factor <= out.low_freq_factor) {
    values.refuse("high_freq_factor",
                  concat("must be above low_freq_factor = ", out.low_freq_factor));
  }
  out.truncate = values.flag("truncate", out.truncate);
  out.mscale = maybe_number(values, "mscale");
  out.mscale_all_dim = maybe_number(values, "mscale_all_dim");
  out.attention_factor = maybe_number(values, "attention_factor");
  out.short_mscale = maybe_number(values, "short_mscale");
  out.short_factors = values.numbers("short_factor");
  out.alpha = values.number("alpha", out.alpha);
  return out;
}

void read_quantization(const ConfigFile& config, Architecture& out) {
  if (!config.has("quantization_config")) return;
  const auto section = config.section("quantization_config");
  out.quantization = section.text("quant_method");
  if (out.quantization == "fp8") {
    const auto block = section.integers("weight_block_size");
    if (block.size() != 2 || block[0] < 1 || block[1] < 1) {
      section.refuse("weight_block_size", "two sizes above 0 are wanted");
    }
    if (section.text("fmt", "e4m3") != "e4m3") section.refuse("fmt", "e4m3 alone is known");
    out.scale_rows = block[0];
    out.scale_columns = block[1];
  } else if (out.quantization != "mxfp4") {
    section.refuse("quant_method", "fp8 and mxfp4 are known");
  }
}

}  // namespace

Architecture usual_architecture(const ConfigFile& config, bool tied_by_default) {
  Architecture out;
  out.where = config.where();
  out.hidden_size = config.integer("hidden_size");
  out.vocabulary_size = config.integer("vocab_size");
  out.context = config.integer("max_position_embeddings", 0, 0);
  out.tied_embeddings = config.flag("tie_word_embeddings", tied_by_default);
  out.dtype = config.text("dtype", config.text("torch_dtype", ""));
  read_quantization(config, out);
  out.activation = config.text("hidden_act", out.activation);
  const std::vector<int64_t> matrix{out.vocabulary_size, out.hidden_size};
  out.norm_eps = config.number("rms_norm_eps",
                               config.number("norm_eps", config.number("layer_norm_eps", 1e-6)));
  out.embedding = {{"model.embed_tokens.weight", matrix, "weight"}};
  if (!out.tied_embeddings) out.head = {{"lm_head.weight", matrix, "weight"}};
  out.norms = {{"model.norm.weight", {out.hidden_size}, "weight"}};
  return out;
}

std::vector<BlockPart> make_blocks(const ConfigFile& config,
                                   const std::function<BlockPart(int64_t layer)>& make,
                                   std::string_view key) {
  const auto layers = config.integer(key);
  if (layers > kMostLayers) config.refuse(key, concat("at most ", kMostLayers));
  std::vector<BlockPart> blocks;
  for (int64_t layer = 0; layer < layers; ++layer) blocks.push_back(make(layer));
  return blocks;
}

GroupedAttention usual_heads(const ConfigFile& config) {
  GroupedAttention out;
  out.heads = config.integer("num_attention_heads");
  out.kv_heads = config.integer("num_key_value_heads", out.heads);
  if (out.heads % out.kv_heads != 0) {
    config.refuse("num_key_value_heads", concat("must divide num_attention_heads = ", out.heads));
  }
  const auto hidden = config.integer("hidden_size");
  if (!config.has("head_dim") && hidden % out.heads != 0) {
    config.refuse("num_attention_heads",
                  concat("must divide hidden_size = ", hidden, " where there is no head_dim"));
  }
  out.key_size = config.integer("head_dim", hidden / out.heads);
  out.value_size = out.key_size;
  return out;
}

AttentionPart grouped_attention(const GroupedAttention& of, int64_t hidden_size) {
  AttentionPart out;
  out.heads = of.heads;
  out.kv_heads = of.kv_heads;
  out.key_size = of.key_size;
  out.value_size = of.value_size;
  out.gated = of.gate_in_query;
  out.gate_in_query = of.gate_in_query;
  out.norms = of.norms;
  auto& t = out.tensors;
  const auto& p = of.prefix;
  const bool inputs = of.biases != Biases::kNone;
  const auto queries = of.heads * of.key_size;
  const auto keys = of.kv_heads * of.key_size;
  add_linear(t, "q", p + "q_proj", queries * (of.gate_in_query ? 2 : 1), hidden_size, inputs);
  add_linear(t, "k", p + "k_proj", keys, hidden_size, inputs);
  add_linear(t, "v", p + "v_proj", of.kv_heads * of.value_size, hidden_size, inputs);
  add_linear(t, "o", p + of.output, hidden_size, of.heads * of.value_size,
             of.biases == Biases::kAll);
  if (of.norms != HeadNorms::kNone) {
    const bool all = of.norms == HeadNorms::kAll;
    t.push_back({p + of.query_norm + ".weight", {all ? queries : of.key_size}, "q_norm"});
    t.push_back({p + of.key_norm + ".weight", {all ? keys : of.key_size}, "k_norm"});
  }
  return out;
}

AttentionPart latent_attention(const ConfigFile& config, const std::string& prefix) {
  AttentionPart out;
  out.kind = "latent";
  out.heads = config.integer("num_attention_heads");
  out.kv_heads = out.heads;
  const auto hidden = config.integer("hidden_size");
  const auto plain = config.integer("qk_nope_head_dim");
  const auto turned = config.integer("qk_rope_head_dim");
  const auto latent = config.integer("kv_lora_rank");
  out.key_size = plain + turned;
  out.value_size = config.integer("v_head_dim");
  out.plain_size = plain;
  out.latent_size = latent;
  auto& t = out.tensors;
  const bool bias = config.flag("attention_bias", false);
  if (config.has("q_lora_rank")) {
    const auto rank = config.integer("q_lora_rank");
    add_linear(t, "q_a", prefix + "q_a_proj", rank, hidden, bias);
    t.push_back({prefix + "q_a_layernorm.weight", {rank}, "q_a_norm"});
    add_linear(t, "q_b", prefix + "q_b_proj", out.heads * out.key_size, rank, false);
  } else {
    add_linear(t, "q", prefix + "q_proj", out.heads * out.key_size, hidden, false);
  }
  add_linear(t, "kv_a", prefix + "kv_a_proj_with_mqa", latent + turned, hidden, bias);
  t.push_back({prefix + "kv_a_layernorm.weight", {latent}, "kv_a_norm"});
  add_linear(t, "kv_b", prefix + "kv_b_proj", out.heads * (plain + out.value_size), latent, false);
  add_linear(t, "o", prefix + "o_proj", hidden, out.heads * out.value_size, bias);
  out.rotary = rotary_positions(config, turned, config.flag("rope_interleave", true));
  // Stretched positions stretch the scores, too. Source: the released code of DeepSeek-V2.
  const auto& numbers = out.rotary->numbers;
  if (out.rotary->scaling == "yarn" && numbers.mscale_all_dim.value_or(0) != 0) {
    const double m = yarn_mscale(numbers.factor, *numbers.mscale_all_dim);
    out.scale = m * m / std::sqrt(static_cast<double>(out.key_size));
  }
  return out;
}

RotaryPositions rotary_positions(const ConfigFile& config, int64_t head_size, bool interleaved,
                                 const std::string& section) {
  RotaryPositions out;
  out.interleaved = interleaved;
  double share = config.number("partial_rotary_factor", 1.0);
  if (config.has("rope_parameters")) {
    auto values = config.section("rope_parameters");
    if (!section.empty() && values.has(section)) values = values.section(section);
    out.theta = values.number("rope_theta", config.number("rope_theta", 10000.0));
    out.scaling = values.text("rope_type", "default");
    share = values.number("partial_rotary_factor", share);
    out.numbers = rotary_numbers(config, values);
  } else {
    out.theta = config.number("rope_theta", 10000.0);
    if (config.has("rope_scaling")) {
      const auto values = config.section("rope_scaling");
      out.scaling = values.text("rope_type", values.text("type", "default"));
      out.numbers = rotary_numbers(config, values);
    }
  }
  if (!(out.theta > 0)) config.refuse("rope_theta", "must be above 0");
  if (!(share > 0 && share <= 1)) config.refuse("partial_rotary_factor", "must be in (0, 1]");
  out.head_size = head_size;
  out.channels = static_cast<int64_t>(static_cast<double>(head_size) * share);
  return out;
}

std::string layer_type(const ConfigFile& config, int64_t layer, const std::string& otherwise,
                       std::string_view key) {
  const auto types = config.texts(key);
  if (types.empty()) return otherwise;
  if (layer >= static_cast<int64_t>(types.size())) {
    config.refuse(key, concat("has ", types.size(), " of at least ", layer + 1, " layers"));
  }
  return types[static_cast<size_t>(layer)];
}

AttentionPart not_run(const std::string& kind) {
  AttentionPart out;
  out.kind = kind;
  out.softmax = false;
  return out;
}

std::vector<NamedShape> gated_mlp(const std::string& prefix, int64_t hidden_size, int64_t width,
                                  const MlpNames& names) {
  return {{prefix + names.gate + ".weight", {width, hidden_size}, "gate"},
          {prefix + names.up + ".weight", {width, hidden_size}, "up"},
          {prefix + names.down + ".weight", {hidden_size, width}, "down"}};
}

MixtureStorage each_expert(const MixturePart& mixture, int64_t hidden_size,
                           const std::string& prefix, std::vector<NamedShape> router,
                           const MlpNames& names) {
  MixtureStorage out;
  out.kind = "tensors of every expert";
  out.router = std::move(router);
  out.each = gated_mlp(prefix + "experts.{e}.", hidden_size, mixture.width, names);
  return out;
}

MixtureStorage fused_experts(const MixturePart& mixture, int64_t hidden_size,
                             const std::string& prefix, std::vector<NamedShape> router) {
  const auto e = mixture.num_experts;
  MixtureStorage out;
  out.kind = "fused, [E, out, in]";
  out.router = std::move(router);
  out.all = {{prefix + "gate_up_proj", {e, 2 * mixture.width, hidden_size}, "gate_up"},
             {prefix + "down_proj", {e, hidden_size, mixture.width}, "down"}};
  return out;
}

MixtureStorage fused_by_input(const MixturePart& mixture, int64_t hidden_size,
                              const std::string& prefix, std::vector<NamedShape> router) {
  const auto e = mixture.num_experts;
  MixtureStorage out;
  out.kind = "fused, [E, in, out]";
  out.router = std::move(router);
  out.all = {{prefix + "gate_up_proj", {e, hidden_size, 2 * mixture.width}, "gate_up_by_input"},
             {prefix + "down_proj", {e, mixture.width, hidden_size}, "down_by_input"}};
  return out;
}

void usual_storages(MixturePart& mixture, int64_t hidden_size, std::vector<NamedShape> router) {
  mixture.storages = {each_expert(mixture, hidden_size, "mlp.", router),
                      fused_experts(mixture, hidden_size, "mlp.experts.", router)};
}

void mixtral_storages(MixturePart& mixture, int64_t hidden_size, const std::string& fused_router) {
  const std::vector<int64_t> matrix{mixture.num_experts, hidden_size};
  mixture.storages = {
      each_expert(mixture, hidden_size, "block_sparse_moe.",
                  {{"block_sparse_moe.gate.weight", matrix, "weight"}}, {"w1", "w3", "w2"}),
      fused_experts(mixture, hidden_size, "mlp.experts.", {{fused_router, matrix, "weight"}})};
}

MixturePart sized_mixture(const ConfigFile& config, std::initializer_list<std::string_view> experts,
                          std::string_view width) {
  MixturePart out;
  out.num_experts = config.integer(experts);
  out.top_k = config.integer("num_experts_per_tok");
  out.width = config.integer(width);
  return out;
}

bool is_dense_by_step(const ConfigFile& config, int64_t layer) {
  const auto only = config.integers("mlp_only_layers");
  return std::find(only.begin(), only.end(), layer) != only.end() ||
         (layer + 1) % config.integer("decoder_sparse_step", 1) != 0;
}

void add_dense(BlockPart& block, const ConfigFile& config, int64_t hidden_size) {
  block.dense_width = config.integer("intermediate_size");
  block.dense = gated_mlp("mlp.", hidden_size, block.dense_width);
}

void add_shared(MixturePart& mixture, int64_t hidden_size, const std::string& prefix,
                int64_t width) {
  if (width == 0) return;
  mixture.shared_width = width;
  mixture.shared = gated_mlp(prefix, hidden_size, width);
}

void check_mixture(const ConfigFile& config, const MixturePart& mixture) {
  MOEKIT_CHECK_FORMAT(mixture.num_experts <= kMostExperts, config.where(), ": ",
                      mixture.num_experts, " experts, at most ", kMostExperts);
  MOEKIT_CHECK_FORMAT(mixture.top_k <= mixture.num_experts + mixture.num_identity, config.where(),
                      ": ", mixture.top_k, " experts a token of ", mixture.num_experts);
  const auto& rule = mixture.rule;
  MOEKIT_CHECK_FORMAT(rule.num_groups >= 1 && mixture.num_experts % rule.num_groups == 0 &&
                          rule.kept_groups <= rule.num_groups,
                      config.where(), ": ", rule.kept_groups, " of ", rule.num_groups,
                      " groups of ", mixture.num_experts,
                      " experts: groups must divide experts, and no more be kept than there are");
}

RouterRule corrected_rule(RouterRule::Weights weights, double scale) {
  RouterRule rule;
  rule.scores = RouterRule::Scores::kSigmoid;
  rule.correction = true;
  rule.weights = weights;
  rule.scale = scale;
  return rule;
}

RouterRule::Weights weights_by(const ConfigFile& config, std::string_view key, bool otherwise) {
  return config.flag(key, otherwise) ? RouterRule::Weights::kNormalised
                                     : RouterRule::Weights::kScore;
}

void check_word(const ConfigFile& config, std::string_view key,
                std::initializer_list<std::string_view> known) {
  if (!config.has(key)) return;
  const auto word = config.text(key);
  std::string list;
  for (const auto each : known) {
    if (word == each) return;
    list += (list.empty() ? "" : ", ") + std::string(each);
  }
  config.refuse(key, "known for this family: " + list);
}

RouterRule sigmoid_rule(const ConfigFile& config, const std::string& scale_key) {
  check_word(config, "scoring_func", {"sigmoid", "noaux_tc"});
  auto rule =
      corrected_rule(weights_by(config, "norm_topk_prob", true), config.number(scale_key, 1.0));
  rule.num_groups = config.integer("n_group", 1);
  rule.kept_groups = config.integer("topk_group", 1);
  rule.two_largest = true;
  return rule;
}

std::vector<NamedShape> usual_norms(int64_t hidden_size) {
  return {{"input_layernorm.weight", {hidden_size}, "attention_in"},
          {"post_attention_layernorm.weight", {hidden_size}, "ffn_in"}};
}

}  // namespace moekit::published
