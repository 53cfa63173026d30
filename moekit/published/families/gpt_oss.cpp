// OpenAI 2025, gpt-oss-120b & gpt-oss-20b Model Card, arXiv:2508.10925.
#include "moekit/published/families.h"
#include "moekit/published/parts.h"

namespace moekit::published {
namespace {

constexpr int64_t kScaledTogether = 32;  // values of a row that share a scale in MXFP4

void add_biases(MixtureStorage& storage, const MixturePart& mixture, int64_t hidden_size) {
  storage.biases = {
      {"mlp.experts.gate_up_proj_bias", {mixture.num_experts, 2 * mixture.width}, "gate_up_bias"},
      {"mlp.experts.down_proj_bias", {mixture.num_experts, hidden_size}, "down_bias"}};
}

/// Rows are outputs here, and 16 bytes hold the codes of 32 inputs.
MixtureStorage mxfp4(const ConfigFile& config, const MixturePart& mixture, int64_t hidden_size,
                     std::vector<NamedShape> router) {
  if (hidden_size % kScaledTogether != 0)
    config.refuse("hidden_size", "MXFP4 takes a multiple of 32");
  if (mixture.width % kScaledTogether != 0) {
    config.refuse("intermediate_size", "MXFP4 takes a multiple of 32");
  }
  const auto e = mixture.num_experts;
  const auto up_blocks = hidden_size / kScaledTogether;
  const auto down_blocks = mixture.width / kScaledTogether;
  MixtureStorage out;
  out.kind = "fused, MXFP4";
  out.router = std::move(router);
  out.codes_each = 2;
  out.all = {{"mlp.experts.gate_up_proj_blocks", {e, 2 * mixture.width, up_blocks, 16}, "gate_up"},
             {"mlp.experts.down_proj_blocks", {e, hidden_size, down_blocks, 16}, "down"}};
  out.scales = {{"mlp.experts.gate_up_proj_scales", {e, 2 * mixture.width, up_blocks}},
                {"mlp.experts.down_proj_scales", {e, hidden_size, down_blocks}}};
  return out;
}

}  // namespace

Architecture read_gpt_oss(const ConfigFile& config) {
  auto out = usual_architecture(config);
  const auto d = out.hidden_size;
  auto heads = usual_heads(config);
  heads.biases = config.flag("attention_bias", true) ? Biases::kAll : Biases::kNone;
  out.blocks = make_blocks(config, [&](int64_t layer) {
    BlockPart block;
    auto& attention = block.attention.emplace_back(grouped_attention(heads, d));
    attention.rotary = rotary_positions(config, heads.key_size);
    attention.sinks = true;
    attention.tensors.push_back({"self_attn.sinks", {heads.heads}, "sinks"});
    const auto usual = layer % 2 == 0 ? "sliding_attention" : "full_attention";
    if (layer_type(config, layer, usual) == "sliding_attention") {
      attention.window = config.integer("sliding_window");
    }
    block.norms = usual_norms(d);
    auto& mixture = block.mixture.emplace();
    mixture.num_experts = config.integer("num_local_experts");
    mixture.top_k = config.integer({"num_experts_per_tok", "experts_per_token"});
    mixture.width = config.integer("intermediate_size");
    mixture.activation = "clamped swish";
    mixture.limit = config.number("swiglu_limit", 7.0);
    if (!(mixture.limit > 0)) config.refuse("swiglu_limit", "must be above 0");
    mixture.interleaved = true;
    mixture.rule.scores = RouterRule::Scores::kLogits;
    mixture.rule.weights = RouterRule::Weights::kSoftmaxOfChosen;
    const auto e = mixture.num_experts;
    const std::vector<NamedShape> router{{"mlp.router.weight", {e, d}, "weight"},
                                         {"mlp.router.bias", {e}, "bias"}};
    mixture.storages = {fused_by_input(mixture, d, "mlp.experts.", router)};
    if (out.quantization == "mxfp4") mixture.storages = {mxfp4(config, mixture, d, router)};
    for (auto& storage : mixture.storages) add_biases(storage, mixture, d);
    check_mixture(config, mixture);
    return block;
  });
  return out;
}

}  // namespace moekit::published
