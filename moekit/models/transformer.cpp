#include "moekit/models/transformer.h"

#include <torch/torch.h>

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "moekit/core/error.h"
#include "moekit/nn/attention.h"
#include "moekit/nn/experts/clamped_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/packed_mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/rms_norm.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/scored_router.h"
#include "moekit/nn/routers/sparsemixer_router.h"
#include "moekit/published/rotary_scaling.h"

namespace moekit::models {

/// What all blocks are told of a pass.
struct TransformerPass {
  torch::Tensor position;             ///< [B, T] int64, of padding 0
  torch::Tensor first;                ///< [B] int64, each text's first token
  torch::Tensor mask;                 ///< [B, T] bool; undefined without padding
  TransformerCache* cache = nullptr;  ///< what came before; null: nothing
  int64_t begin() const { return cache == nullptr ? 0 : cache->length(); }
};

namespace {

using Pass = TransformerPass;
using published::Architecture;
using published::AttentionPart;
using published::BlockPart;
using published::HeadNorms;
using published::MixturePart;
using published::NamedShape;
using published::RouterRule;
using published::WeightReader;

std::string why_mixture_not_run(const MixturePart& mixture) {
  if (mixture.num_identity > 0) return "experts that return their input";
  if (mixture.rule.on_input) return "weights on the experts' inputs";
  if (mixture.rule.weights == RouterRule::Weights::kSigmoid) return "weights by a sigmoid";
  return {};
}

/// Softmax over all without anything else: what a linear router does.
bool is_linear(const RouterRule& rule) {
  return rule.scores != RouterRule::Scores::kSigmoid && !rule.correction && rule.num_groups == 1 &&
         rule.scale == 1;
}

std::shared_ptr<nn::RouterImpl> make_router(const MixturePart& mixture, int64_t hidden_size,
                                            bool bias) {
  const auto& rule = mixture.rule;
  if (rule.weights == RouterRule::Weights::kSparsemixer) {
    return nn::SparsemixerRouter(
               nn::SparsemixerRouterOptions(hidden_size, mixture.num_experts).jitter(rule.jitter))
        .ptr();
  }
  if (is_linear(rule)) {
    const bool power = rule.weights == RouterRule::Weights::kNormalised && rule.norm_power != 1;
    const bool probs = power || rule.weights == RouterRule::Weights::kScore;
    auto options =
        nn::LinearRouterOptions(hidden_size, mixture.num_experts)
            .top_k(mixture.top_k)
            .bias(bias)
            .combine_weights(probs ? nn::CombineWeights::kProbs : nn::CombineWeights::kRenormalized)
            .weight_norm(power ? rule.norm_power : 0.0);
    // One expert a token with a weight of 1: a pass trains it no more than the published code.
    if (!probs && mixture.top_k == 1) options.aux_only(true);
    return nn::LinearRouter(options).ptr();
  }
  auto options = nn::ScoredRouterOptions(hidden_size, mixture.num_experts)
                     .top_k(mixture.top_k)
                     .score(rule.scores == RouterRule::Scores::kSigmoid ? nn::RouterScore::kSigmoid
                                                                        : nn::RouterScore::kSoftmax)
                     .normalize(rule.weights == RouterRule::Weights::kNormalised)
                     .weight_scale(rule.scale)
                     // A correction is a buffer that training would move by steps of this size.
                     .bias_rate(rule.correction ? 1e-3 : 0.0)
                     .num_groups(rule.num_groups)
                     .kept_groups(rule.kept_groups);
  if (rule.num_groups > 1) {
    options.group_score(rule.two_largest ? nn::GroupScore::kTopTwo : nn::GroupScore::kLargest);
  }
  return nn::ScoredRouter(options).ptr();
}

using Format = std::optional<kernels::WeightFormat>;

/// Gated networks, `count` of them.
std::shared_ptr<nn::ExpertsImpl> make_experts(int64_t hidden_size, int64_t width, int64_t count,
                                              Format format) {
  if (format) {
    const kernels::FfnShape shape{count, hidden_size, width, hidden_size, nn::Activation::kSwiglu};
    return nn::PackedMlpExperts(shape, *format).ptr();
  }
  return nn::MlpExperts(nn::MlpExpertsOptions(hidden_size, width, count)
                            .activation(nn::Activation::kSwiglu)
                            .bias(false))
      .ptr();
}

/// A mixture's experts.
std::shared_ptr<nn::ExpertsImpl> make_bank(const MixturePart& mixture, int64_t hidden_size,
                                           Format format) {
  if (mixture.limit == 0) {
    return make_experts(hidden_size, mixture.width, mixture.num_experts, format);
  }
  MOEKIT_CHECK(!format, "experts of ", mixture.activation, " cannot be packed, in ",
               kernels::format_info(*format).name);
  return nn::ClampedExperts(
             nn::ClampedExpertsOptions(hidden_size, mixture.width, mixture.num_experts)
                 .limit(mixture.limit))
      .ptr();
}

void set_network(nn::ExpertsImpl& bank, int64_t e, const torch::Tensor& gate,
                 const torch::Tensor& up, const torch::Tensor& down) {
  if (auto* packed = dynamic_cast<nn::PackedMlpExpertsImpl*>(&bank)) {
    return packed->set_expert(e, gate, up, down);
  }
  const auto copy = [&](auto& plain) {
    plain.gate_proj[e].copy_(gate);
    plain.up_proj[e].copy_(up);
    plain.down_proj[e].copy_(down);
  };
  if (auto* clamped = dynamic_cast<nn::ClampedExpertsImpl*>(&bank)) return copy(*clamped);
  copy(dynamic_cast<nn::MlpExpertsImpl&>(bank));
}

/// Biases of all experts, where gate and up values take turns.
void fill_biases(nn::ExpertsImpl& bank, const std::string& prefix,
                 const std::vector<NamedShape>& tensors, const WeightReader& weights) {
  if (tensors.empty()) return;
  auto& clamped = dynamic_cast<nn::ClampedExpertsImpl&>(bank);
  for (const auto& tensor : tensors) {
    const auto values = weights.read(prefix, tensor);
    if (tensor.role == "down_bias") {
      clamped.down_bias.copy_(values);
    } else {
      const auto pairs = values.unflatten(1, {-1, 2});
      clamped.gate_bias.copy_(pairs.select(2, 0));
      clamped.up_bias.copy_(pairs.select(2, 1));
    }
  }
}

/// x W' + b. A single row goes through a product of matrix and vector: that of matrices copies all
/// weights into another form first.
torch::Tensor product(const torch::Tensor& x, const torch::Tensor& weight,
                      const torch::Tensor& bias = {}) {
  if (at::GradMode::is_enabled() || x.numel() != weight.size(1)) {
    return torch::linear(x, weight, bias);
  }
  auto out = weight.mv(x.flatten());
  if (bias.defined()) out = out + bias;
  auto sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  return out.view(sizes);
}

/// Channels of each head turned by their positions. @param x [B, T, H, d], the last `r` of them
/// after `begin` turn; cosine, sine [B, T, 1, r / 2]
torch::Tensor turned(const torch::Tensor& x, int64_t begin, const torch::Tensor& cosine,
                     const torch::Tensor& sine, bool interleaved) {
  const auto half = cosine.size(3);
  const auto part = x.narrow(3, begin, 2 * half);
  torch::Tensor out;
  if (interleaved) {
    const auto pairs = part.unflatten(3, {half, 2});
    const auto a = pairs.select(4, 0);
    const auto b = pairs.select(4, 1);
    out = torch::stack({a * cosine - b * sine, b * cosine + a * sine}, 4).flatten(3);
  } else {
    const auto a = part.narrow(3, 0, half);
    const auto b = part.narrow(3, half, half);
    out = torch::cat({a * cosine - b * sine, b * cosine + a * sine}, 3);
  }
  if (out.size(3) == x.size(3)) return out;
  const auto end = begin + 2 * half;
  return torch::cat({x.narrow(3, 0, begin), out, x.narrow(3, end, x.size(3) - end)}, 3);
}

/// Attention whose softmax has one more logit a head, without a value.
torch::Tensor attention_with_sinks(const torch::Tensor& query, const torch::Tensor& key,
                                   const torch::Tensor& value, const torch::Tensor& sinks,
                                   const torch::Tensor& first, double scale) {
  const auto heads = query.size(2);
  const auto spread = [&](const torch::Tensor& x) {
    return x.repeat_interleave(heads / x.size(2), 2).transpose(1, 2);  // [B, H, T, d]
  };
  auto scores = query.transpose(1, 2).matmul(spread(key).transpose(2, 3)) * scale;
  const auto at = torch::arange(key.size(1), torch::kLong);
  const auto own = at.narrow(0, key.size(1) - query.size(1), query.size(1));
  const auto seen = (at.view({1, 1, -1}) <= own.view({1, -1, 1}))
                        .logical_and(at.view({1, 1, -1}) >= first.to(torch::kLong).unsqueeze(2));
  scores =
      scores.masked_fill(seen.logical_not().unsqueeze(1), -std::numeric_limits<float>::infinity());
  const auto sink = sinks.view({1, -1, 1, 1}).expand({scores.size(0), -1, scores.size(2), 1});
  const auto share = torch::softmax(torch::cat({scores, sink}, 3), 3);
  return share.narrow(3, 0, scores.size(3)).matmul(spread(value)).transpose(1, 2);
}

/// Reads a gated network's matrices, as they are named, into expert `e` of a bank.
void fill_network(nn::ExpertsImpl& bank, int64_t e, int64_t width, const std::string& prefix,
                  const std::vector<NamedShape>& tensors, const WeightReader& weights) {
  torch::Tensor gate;
  torch::Tensor up;
  torch::Tensor down;
  for (const auto& tensor : tensors) {
    if (tensor.role == "gate") gate = weights.read(prefix, tensor);
    if (tensor.role == "up") up = weights.read(prefix, tensor);
    if (tensor.role == "down") down = weights.read(prefix, tensor);
    if (tensor.role == "gate_up") {
      const auto both = weights.read(prefix, tensor);
      gate = both.narrow(0, 0, width);
      up = both.narrow(0, width, width);
    }
  }
  about(concat(prefix, "expert ", e), [&] { set_network(bank, e, gate, up, down); });
}

/// The same of matrices that hold all experts.
void fill_bank(nn::ExpertsImpl& bank, const MixturePart& mixture, const std::string& prefix,
               const std::vector<NamedShape>& tensors, const WeightReader& weights) {
  const auto count = bank.num_experts();
  const auto width = mixture.width;
  torch::Tensor gate;  // [E, F, D]
  torch::Tensor up;    // [E, F, D]
  torch::Tensor down;  // [E, D, F]
  for (const auto& tensor : tensors) {
    const auto values = weights.read(prefix, tensor);
    const auto& role = tensor.role;
    if (role == "gate_up" || role == "gate_up_by_input") {
      const auto rows = role == "gate_up" ? values : values.transpose(1, 2);
      if (mixture.interleaved) {
        const auto pairs = rows.unflatten(1, {width, 2});
        gate = pairs.select(2, 0);
        up = pairs.select(2, 1);
      } else {
        gate = rows.narrow(1, 0, width);
        up = rows.narrow(1, width, width);
      }
    } else if (role == "down") {
      down = values;
    } else if (role == "down_by_input") {
      down = values.transpose(1, 2);
    } else if (role == "gate_flat") {
      gate = values.view({count, width, -1});
    } else if (role == "up_flat") {
      up = values.view({count, width, -1});
    } else if (role == "down_flat") {
      down = values.view({count, width, -1}).transpose(1, 2);
    }
  }
  for (int64_t e = 0; e < count; ++e) {
    about(concat(prefix, "expert ", e), [&] { set_network(bank, e, gate[e], up[e], down[e]); });
  }
}

}  // namespace

std::string why_not_run(const Architecture& architecture) {
  for (size_t l = 0; l < architecture.blocks.size(); ++l) {
    const auto& block = architecture.blocks[l];
    const auto layer = concat("layer ", l, ": ");
    if (block.attention.size() != 1) return layer + "several attentions in a layer";
    if (!block.attention.front().softmax) return layer + block.attention.front().kind;
    if (block.attention.front().chunk > 0) return layer + "attention in chunks";
    if (!block.mixture) continue;
    const auto why = why_mixture_not_run(*block.mixture);
    if (!why.empty()) return layer + why;
  }
  return {};
}

/// One block.
class TransformerBlockImpl : public torch::nn::Module {
 public:
  TransformerBlockImpl(const Architecture& architecture, size_t layer, Format format)
      : of_(architecture), part_(architecture.blocks[layer]), layer_(static_cast<int64_t>(layer)) {
    const auto d = of_.hidden_size;
    for (const auto& tensor : attention_part().tensors) add(attention_, "attention.", tensor);
    for (const auto& tensor : part_.norms) add(norms_, "norm.", tensor);
    if (part_.mixture) {
      const auto& mixture = *part_.mixture;
      bool bias = false;
      for (const auto& tensor : mixture.storages.front().router) bias |= tensor.role == "bias";
      moe_ = register_module("moe",
                             nn::MoE(make_router(mixture, d, bias), make_bank(mixture, d, format)));
      if (mixture.shared_width > 0) {
        shared_ = register_module("shared", make_experts(d, mixture.shared_width, 1, format));
      }
      if (mixture.shared_gate) {
        shared_gate_ = register_parameter("shared_gate", torch::zeros({1, d}));
      }
    } else {
      dense_ = register_module("dense", make_experts(d, part_.dense_width, 1, format));
    }
    if (!attention_part().rotary) return;
    const auto& rotary = *attention_part().rotary;
    const auto frequencies = published::rotary_frequencies(rotary, of_.where);
    frequency_ = torch::tensor(frequencies.per_position, torch::kFloat64).to(torch::kFloat32);
    rotary_scale_ = frequencies.scale;
  }

  void load(const WeightReader& weights) {
    const auto prefix = concat(of_.layer_prefix, layer_, ".");
    for (const auto& tensor : attention_part().tensors) {
      attention_.at(tensor.role).copy_(weights.read(prefix, tensor));
    }
    for (const auto& tensor : part_.norms) {
      norms_.at(tensor.role).copy_(weights.read(prefix, tensor));
    }
    if (dense_) {
      return fill_network(*dense_, 0, part_.dense_width, prefix, part_.dense, weights);
    }
    const auto& mixture = *part_.mixture;
    const auto& storages = mixture.storages;
    const auto& storage = storages[std::min(weights.storage(), storages.size() - 1)];
    load_router(storage.router, prefix, weights);
    auto& bank = *moe_->experts;
    for (int64_t e = 0; !storage.each.empty() && e < mixture.num_experts; ++e) {
      auto tensors = storage.each;
      for (auto& tensor : tensors) tensor.name = published::name_of_expert(tensor.name, e);
      fill_network(bank, e, mixture.width, prefix, tensors, weights);
    }
    if (!storage.all.empty()) fill_bank(bank, mixture, prefix, storage.all, weights);
    fill_biases(bank, prefix, storage.biases, weights);
    if (shared_) {
      fill_network(*shared_, 0, mixture.shared_width, prefix, mixture.shared, weights);
    }
    for (const auto& tensor : mixture.shared) {
      if (tensor.role == "expert_gate") shared_gate_.copy_(weights.read(prefix, tensor));
    }
  }

  torch::Tensor forward(torch::Tensor x, const Pass& pass, TransformerOutput& output) {
    if (part_.parallel) {
      const auto normalised = norm(x, "attention_in");
      return x + attend(normalised, pass) + feed_forward(normalised, pass, output);
    }
    const auto step = [&](const char* before, const char* behind, double keep, double add,
                          const auto& run) {
      const auto normalised = norm(x, before);
      const auto made = norm(run(normalised), behind);
      const auto& kept = part_.keeps_normalised ? normalised : x;
      x = (keep == 1 ? kept : kept * keep) + (add == 1 ? made : made * add);
    };
    step("attention_in", "attention_out", part_.attention_keep, part_.attention_add,
         [&](const torch::Tensor& in) { return attend(in, pass); });
    step("ffn_in", "ffn_out", part_.ffn_keep, part_.ffn_add,
         [&](const torch::Tensor& in) { return feed_forward(in, pass, output); });
    return x;
  }

 private:
  using Tensors = std::map<std::string, torch::Tensor>;
  const AttentionPart& attention_part() const { return part_.attention.front(); }

  void add(Tensors& to, const char* prefix, const NamedShape& tensor) {
    to[tensor.role] = register_parameter(
        // libtorch wants no dots.
        std::string(prefix).substr(0, std::string(prefix).size() - 1) + "_" + tensor.role,
        torch::zeros(tensor.shape));
  }

  void load_router(const std::vector<NamedShape>& tensors, const std::string& prefix,
                   const WeightReader& weights) {
    auto* linear = dynamic_cast<nn::LinearRouterImpl*>(moe_->router.get());
    auto* scored = dynamic_cast<nn::ScoredRouterImpl*>(moe_->router.get());
    auto& matrix = linear != nullptr
                       ? linear->weight
                       : dynamic_cast<nn::ProjectionRouterImpl&>(*moe_->router).weight;
    for (const auto& tensor : tensors) {
      const auto values = weights.read(prefix, tensor);
      if (tensor.role == "weight") matrix.copy_(values);
      if (tensor.role == "bias") linear->bias.copy_(values);
      if (tensor.role == "correction") scored->correction.copy_(values.flatten());
    }
  }

  /// By the architecture's kind, where the block has such a norm.
  torch::Tensor norm(const torch::Tensor& x, const char* role) const {
    const auto at = norms_.find(role);
    if (at == norms_.end()) return x;
    const auto bias = norms_.find(std::string(role) + "_bias");
    return normalise(of_, x, at->second, bias == norms_.end() ? torch::Tensor() : bias->second);
  }

 public:
  static torch::Tensor normalise(const Architecture& of, const torch::Tensor& x,
                                 const torch::Tensor& weight, const torch::Tensor& bias) {
    switch (of.norm) {
      case Architecture::Norm::kRms:
        return nn::rms_norm(x, weight, of.norm_eps);
      case Architecture::Norm::kRmsPlusOne:
        return nn::rms_norm(x, weight + 1, of.norm_eps);
      case Architecture::Norm::kLayer:
        break;
    }
    return torch::layer_norm(x, weight.sizes(), weight, bias, of.norm_eps);
  }

 private:
  torch::Tensor map(const torch::Tensor& x, const std::string& role) const {
    const auto bias = attention_.find(role + "_bias");
    return product(x, attention_.at(role),
                   bias == attention_.end() ? torch::Tensor() : bias->second);
  }

  torch::Tensor attend(const torch::Tensor& x, const Pass& pass) const {
    const auto& part = attention_part();
    torch::Tensor query;
    torch::Tensor key;
    torch::Tensor value;
    torch::Tensor gate;
    torch::Tensor cosine;
    torch::Tensor sine;
    if (frequency_.defined()) {
      const auto angle = pass.position.to(torch::kFloat32).unsqueeze(2) * frequency_;
      cosine = (torch::cos(angle) * rotary_scale_).unsqueeze(2);
      sine = (torch::sin(angle) * rotary_scale_).unsqueeze(2);
    }
    if (part.kind == "latent") {
      make_latent(x, cosine, sine, query, key, value);
    } else {
      make_grouped(x, cosine, sine, query, key, value, gate);
    }
    if (pass.cache != nullptr) {
      const auto keep = [&](torch::Tensor& kept, const torch::Tensor& added) {
        kept.narrow(1, pass.begin(), x.size(1)).copy_(added);
        return kept.narrow(1, 0, pass.begin() + x.size(1));
      };
      const auto at = static_cast<size_t>(layer_);
      key = keep(pass.cache->keys_[at], key);
      value = keep(pass.cache->values_[at], value);
    }
    auto first = pass.first.unsqueeze(1).expand({x.size(0), x.size(1)});
    if (part.window > 0) {
      const auto from = torch::arange(x.size(1), torch::kLong) + (pass.begin() - part.window + 1);
      first = torch::maximum(first, from.unsqueeze(0));
    }
    const double scale =
        part.scale != 0 ? part.scale : 1 / std::sqrt(static_cast<double>(part.key_size));
    torch::Tensor mixed;
    if (part.sinks) {
      mixed = attention_with_sinks(query, key, value, attention_.at("sinks"), first, scale);
    } else {
      nn::AttentionSettings settings;
      settings.scale = scale;
      settings.first = first.to(torch::kInt32).contiguous();
      mixed =
          nn::causal_attention(query.contiguous(), key.contiguous(), value.contiguous(), settings);
    }
    mixed = mixed.flatten(2);
    if (part.gated) {
      mixed = mixed * torch::sigmoid(part.gate_in_query ? gate : map(x, "gate"));
    }
    return map(mixed, "o");
  }

  void make_grouped(const torch::Tensor& x, const torch::Tensor& cosine, const torch::Tensor& sine,
                    torch::Tensor& query, torch::Tensor& key, torch::Tensor& value,
                    torch::Tensor& gate) const {
    const auto& part = attention_part();
    if (attention_.count("qkv") != 0) {
      const auto all =
          map(x, "qkv").split_with_sizes({part.heads * part.key_size, part.kv_heads * part.key_size,
                                          part.kv_heads * part.value_size},
                                         2);
      query = all[0];
      key = all[1];
      value = all[2];
    } else {
      query = map(x, "q");
      key = map(x, "k");
      value = map(x, "v");
    }
    if (part.gate_in_query) {
      const auto both = query.unflatten(2, {part.heads, 2 * part.key_size});
      query = both.narrow(3, 0, part.key_size).flatten(2);
      gate = both.narrow(3, part.key_size, part.key_size).flatten(2);
    }
    if (part.norms == HeadNorms::kAll) {
      query = normalise(of_, query, attention_.at("q_norm"), {});
      key = normalise(of_, key, attention_.at("k_norm"), {});
    }
    if (part.clip > 0) {
      for (auto* rows : {&query, &key, &value}) *rows = rows->clamp(-part.clip, part.clip);
    }
    query = query.unflatten(2, {part.heads, part.key_size});
    key = key.unflatten(2, {part.kv_heads, part.key_size});
    value = value.unflatten(2, {part.kv_heads, part.value_size});
    if (part.value_scale != 1) value = value * part.value_scale;
    const auto norm_heads = [&] {
      if (part.norms != HeadNorms::kEach) return;
      query = normalise(of_, query, attention_.at("q_norm"), {});
      key = normalise(of_, key, attention_.at("k_norm"), {});
    };
    if (!part.norm_after_rotary) norm_heads();
    if (cosine.defined()) {
      query = turned(query, 0, cosine, sine, part.rotary->interleaved);
      key = turned(key, 0, cosine, sine, part.rotary->interleaved);
    }
    if (part.norm_after_rotary) norm_heads();
  }

  /// Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1, as released.
  void make_latent(const torch::Tensor& x, const torch::Tensor& cosine, const torch::Tensor& sine,
                   torch::Tensor& query, torch::Tensor& key, torch::Tensor& value) const {
    constexpr double kLatentEps = 1e-6;  // of the released code, whatever the model's
    const auto& part = attention_part();
    const auto plain = part.plain_size;
    const bool interleaved = part.rotary->interleaved;
    if (attention_.count("q_a") != 0) {
      const auto latent = nn::rms_norm(map(x, "q_a"), attention_.at("q_a_norm"), kLatentEps);
      query = map(latent * part.query_latent_scale, "q_b");
    } else {
      query = map(x, "q");
    }
    query = query.unflatten(2, {part.heads, part.key_size});
    query = turned(query, plain, cosine, sine, interleaved);
    const auto both = map(x, "kv_a");
    const auto latent =
        nn::rms_norm(both.narrow(2, 0, part.latent_size), attention_.at("kv_a_norm"), kLatentEps);
    const auto shared = turned(both.narrow(2, part.latent_size, part.key_size - plain).unsqueeze(2),
                               0, cosine, sine, interleaved);
    const auto heads =
        map(latent * part.latent_scale, "kv_b").unflatten(2, {part.heads, plain + part.value_size});
    key = torch::cat({heads.narrow(3, 0, plain), shared.expand({-1, -1, part.heads, -1})}, 3);
    value = heads.narrow(3, plain, part.value_size);
  }

  torch::Tensor feed_forward(const torch::Tensor& x, const Pass& pass, TransformerOutput& output) {
    const auto whole = [&](const std::shared_ptr<nn::ExpertsImpl>& network) {
      const auto rows = x.flatten(0, 1);
      return nn::forward_each(*network, rows, torch::zeros({rows.size(0)}, torch::kLong))
          .view_as(x);
    };
    if (dense_) return whole(dense_);
    nn::RouterContext context;
    context.mask = pass.mask;
    auto routed = moe_->forward_with_routing(x, context);
    auto out = routed.values;
    if (shared_) {
      auto shared = whole(shared_);
      if (shared_gate_.defined()) shared = shared * torch::sigmoid(product(x, shared_gate_));
      out = out + shared;
      if (part_.mixture->shared_average) out = out / 2;
    }
    output.mixtures.push_back(
        {layer_, x, part_.mixture->shared_beside ? routed.values : out, std::move(routed.routing)});
    return out;
  }

  const Architecture& of_;
  BlockPart part_;
  int64_t layer_;
  Tensors attention_, norms_;
  nn::MoE moe_{nullptr};
  std::shared_ptr<nn::ExpertsImpl> shared_, dense_;
  torch::Tensor shared_gate_;
  torch::Tensor frequency_;  ///< [channels / 2]; undefined without positions
  double rotary_scale_ = 1;
};

TransformerImpl::TransformerImpl(Architecture architecture,
                                 std::optional<kernels::WeightFormat> format)
    : architecture_(std::move(architecture)) {
  const auto why = why_not_run(architecture_);
  MOEKIT_CHECK(why.empty(), architecture_.where, ": ", architecture_.family,
               " is not run by moekit: ", why);
  const auto parameter = [&](const char* name, const std::vector<NamedShape>& tensors,
                             const char* role) {
    for (const auto& tensor : tensors) {
      if (tensor.role == role) return register_parameter(name, torch::zeros(tensor.shape));
    }
    return torch::Tensor();
  };
  embedding_ = parameter("embedding", architecture_.embedding, "weight");
  head_ = parameter("head", architecture_.head, "weight");
  head_bias_ = parameter("head_bias", architecture_.head, "bias");
  norm_ = parameter("norm", architecture_.norms, "weight");
  norm_bias_ = parameter("norm_bias", architecture_.norms, "bias");
  for (size_t l = 0; l < architecture_.blocks.size(); ++l) {
    blocks_.push_back(std::make_shared<TransformerBlockImpl>(architecture_, l, format));
    register_module(concat("layer", l), blocks_.back());
  }
}

TransformerImpl::~TransformerImpl() = default;

void TransformerImpl::load(const WeightReader& weights) {
  const torch::NoGradGuard no_grad;
  const auto read = [&](torch::Tensor& to, const std::vector<NamedShape>& tensors,
                        const char* role) {
    for (const auto& tensor : tensors) {
      if (tensor.role == role) to.copy_(weights.read("", tensor));
    }
  };
  read(embedding_, architecture_.embedding, "weight");
  read(head_, architecture_.head, "weight");
  read(head_bias_, architecture_.head, "bias");
  read(norm_, architecture_.norms, "weight");
  read(norm_bias_, architecture_.norms, "bias");
  for (auto& block : blocks_) block->load(weights);
}

TransformerCache::TransformerCache(const Architecture& architecture, int64_t batch,
                                   int64_t capacity) {
  MOEKIT_CHECK(batch >= 1 && capacity >= 1,
               "TransformerCache: batch and capacity must be at least 1");
  for (const auto& block : architecture.blocks) {
    const auto& part = block.attention.front();
    keys_.push_back(torch::zeros({batch, capacity, part.kv_heads, part.key_size}));
    values_.push_back(torch::zeros({batch, capacity, part.kv_heads, part.value_size}));
  }
}

void TransformerImpl::check_ids(const torch::Tensor& ids) const {
  MOEKIT_CHECK(ids.dim() == 2 && ids.scalar_type() == torch::kLong && ids.numel() > 0,
               "Transformer: ids must be int64 [B, T], none of them 0; got ", ids.sizes());
  const auto least = ids.min().item<int64_t>();
  const auto most = ids.max().item<int64_t>();
  MOEKIT_CHECK(least >= 0 && most < architecture_.vocabulary_size, "Transformer: ids must be 0..",
               architecture_.vocabulary_size - 1, "; got ", least < 0 ? least : most);
}

TransformerOutput TransformerImpl::run(const torch::Tensor& ids, const TransformerPass& pass) {
  TransformerOutput out;
  auto x = torch::embedding(embedding_, ids);
  if (architecture_.embedding_scale != 1) x = x * architecture_.embedding_scale;
  out.hidden.push_back(x);
  for (auto& block : blocks_) {
    x = block->forward(x, pass, out);
    out.hidden.push_back(x);
  }
  out.normalised = TransformerBlockImpl::normalise(architecture_, x, norm_, norm_bias_);
  out.logits = product(out.normalised, head_.defined() ? head_ : embedding_, head_bias_);
  if (architecture_.logit_scale != 1) out.logits = out.logits * architecture_.logit_scale;
  if (pass.mask.defined()) out.logits = out.logits * pass.mask.unsqueeze(2);
  return out;
}

TransformerOutput TransformerImpl::forward(const torch::Tensor& ids, const torch::Tensor& mask) {
  check_ids(ids);
  TransformerPass pass;
  pass.position = torch::arange(ids.size(1), torch::kLong).unsqueeze(0).expand_as(ids);
  pass.first = torch::zeros({ids.size(0)}, torch::kLong);
  if (mask.defined()) {
    MOEKIT_CHECK(mask.sizes() == ids.sizes() && mask.scalar_type() == torch::kBool,
                 "Transformer: the mask must be bool ", ids.sizes(), "; got ", mask.sizes());
    pass.first = ids.size(1) - mask.sum(1);
    const auto after = pass.position >= pass.first.unsqueeze(1);
    MOEKIT_CHECK(after.equal(mask), "Transformer: padding must stand before a text's first token");
    pass.position = (pass.position - pass.first.unsqueeze(1)).clamp_min(0);
    pass.mask = mask;
  }
  return run(ids, pass);
}

TransformerOutput TransformerImpl::forward_cached(const torch::Tensor& ids,
                                                  TransformerCache& cache) {
  const torch::NoGradGuard no_grad;  // what a cache holds has no graph
  check_ids(ids);
  MOEKIT_CHECK(ids.size(0) == cache.keys_.front().size(0) &&
                   cache.length() + ids.size(1) <= cache.capacity(),
               "Transformer: the cache has room for ", cache.capacity() - cache.length(),
               " tokens of ", cache.keys_.front().size(0), " texts; got ", ids.sizes());
  TransformerPass pass;
  pass.cache = &cache;
  pass.position =
      (torch::arange(ids.size(1), torch::kLong) + cache.length()).unsqueeze(0).expand_as(ids);
  pass.first = torch::zeros({ids.size(0)}, torch::kLong);
  auto out = run(ids, pass);
  cache.length_ += ids.size(1);
  return out;
}

}  // namespace moekit::models
