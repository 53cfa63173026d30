#include "moekit/models/transformer_attention.h"

#include <torch/torch.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "moekit/nn/attention.h"
#include "moekit/nn/rms_norm.h"
#include "moekit/published/rotary_scaling.h"

namespace moekit::models {
namespace {

using published::Architecture;
using published::HeadNorms;

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

/// By its root mean square, without a weight.
torch::Tensor normalised_alone(const torch::Tensor& x, double eps) {
  return nn::rms_norm(x, torch::ones({x.size(-1)}), eps);
}

}  // namespace

torch::Tensor product(const torch::Tensor& x, const torch::Tensor& weight,
                      const torch::Tensor& bias) {
  if (at::GradMode::is_enabled() || x.numel() != weight.size(1)) {
    return torch::linear(x, weight, bias);
  }
  auto out = weight.mv(x.flatten());
  if (bias.defined()) out = out + bias;
  auto sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  return out.view(sizes);
}

torch::Tensor normalise(const Architecture& of, const torch::Tensor& x, const torch::Tensor& weight,
                        const torch::Tensor& bias) {
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

TransformerAttentionImpl::TransformerAttentionImpl(const Architecture& of,
                                                   published::AttentionPart part, size_t slot)
    : of_(of), part_(std::move(part)), slot_(slot) {
  for (const auto& tensor : part_.tensors) {
    weights_[tensor.role] = register_parameter(tensor.role, torch::zeros(tensor.shape));
  }
  if (!part_.rotary) return;
  const auto frequencies = published::rotary_frequencies(*part_.rotary, of_.where);
  frequency_ = torch::tensor(frequencies.per_position, torch::kFloat64).to(torch::kFloat32);
  rotary_scale_ = frequencies.scale;
}

void TransformerAttentionImpl::load(const published::WeightReader& weights,
                                    const std::string& prefix) {
  for (const auto& tensor : part_.tensors) {
    weights_.at(tensor.role).copy_(weights.read(prefix, tensor));
  }
}

torch::Tensor TransformerAttentionImpl::map(const torch::Tensor& x, const std::string& role) const {
  const auto bias = weights_.find(role + "_bias");
  return product(x, weights_.at(role), bias == weights_.end() ? torch::Tensor() : bias->second);
}

TransformerAttentionImpl::Angles TransformerAttentionImpl::angles(
    const TransformerPass& pass) const {
  if (!frequency_.defined()) return {};
  const auto angle = pass.position.to(torch::kFloat32).unsqueeze(2) * frequency_;
  return {(torch::cos(angle) * rotary_scale_).unsqueeze(2),
          (torch::sin(angle) * rotary_scale_).unsqueeze(2)};
}

/// Queries that are far on in a text grow. Source: Nakanishi 2025, arXiv:2501.19399, as released
/// with Llama 4.
void TransformerAttentionImpl::warm(torch::Tensor& query, const TransformerPass& pass) const {
  if (part_.temperature == 0) return;
  const auto steps = torch::floor((pass.position + 1).to(torch::kFloat32) /
                                  static_cast<double>(part_.floor_scale));
  const auto scale = torch::log1p(steps) * part_.temperature + 1;
  query = query * scale.unsqueeze(2).unsqueeze(3);
}

/// The first token that each query sees, [B, T].
torch::Tensor TransformerAttentionImpl::first_seen(const TransformerPass& pass,
                                                   int64_t tokens) const {
  auto first = pass.first.unsqueeze(1).expand({pass.first.size(0), tokens});
  if (part_.window > 0) {
    const auto from = torch::arange(tokens, torch::kLong) + (pass.begin() - part_.window + 1);
    first = torch::maximum(first, from.unsqueeze(0));
  }
  if (part_.chunk > 0) {
    const auto in_chunk = pass.position.remainder(part_.chunk);
    const auto own = torch::arange(tokens, torch::kLong) + pass.begin();
    first = torch::maximum(first, own.unsqueeze(0) - in_chunk);
  }
  return first;
}

torch::Tensor TransformerAttentionImpl::forward(const torch::Tensor& x,
                                                const TransformerPass& pass) const {
  auto [query, key, value, gate] =
      part_.kind == "latent" ? make_latent(x, angles(pass)) : make_grouped(x, angles(pass));
  warm(query, pass);
  if (pass.cache != nullptr) std::tie(key, value) = pass.cache->extend(slot_, key, value);
  const auto first = first_seen(pass, x.size(1));
  const double scale =
      part_.scale != 0 ? part_.scale : 1 / std::sqrt(static_cast<double>(part_.key_size));
  torch::Tensor mixed;
  if (part_.sinks) {
    mixed = attention_with_sinks(query, key, value, weights_.at("sinks"), first, scale);
  } else {
    nn::AttentionSettings settings;
    settings.scale = scale;
    settings.first = first.to(torch::kInt32).contiguous();
    mixed =
        nn::causal_attention(query.contiguous(), key.contiguous(), value.contiguous(), settings);
  }
  mixed = mixed.flatten(2);
  if (part_.gated) mixed = mixed * torch::sigmoid(part_.gate_in_query ? gate : map(x, "gate"));
  return map(mixed, "o");
}

TransformerAttentionImpl::Heads TransformerAttentionImpl::make_grouped(const torch::Tensor& x,
                                                                       const Angles& angles) const {
  Heads h;
  if (weights_.count("qkv") != 0) {
    const auto all = map(x, "qkv").split_with_sizes(
        {part_.heads * part_.key_size, part_.kv_heads * part_.key_size,
         part_.kv_heads * part_.value_size},
        2);
    h.query = all[0];
    h.key = all[1];
    h.value = all[2];
  } else {
    h.query = map(x, "q");
    h.key = map(x, "k");
    h.value = map(x, "v");
  }
  if (part_.gate_in_query) {
    const auto both = h.query.unflatten(2, {part_.heads, 2 * part_.key_size});
    h.query = both.narrow(3, 0, part_.key_size).flatten(2);
    h.gate = both.narrow(3, part_.key_size, part_.key_size).flatten(2);
  }
  if (part_.norms == HeadNorms::kAll) {
    h.query = normalise(of_, h.query, weights_.at("q_norm"), {});
    h.key = normalise(of_, h.key, weights_.at("k_norm"), {});
  }
  if (part_.clip > 0) {
    for (auto* rows : {&h.query, &h.key, &h.value}) *rows = rows->clamp(-part_.clip, part_.clip);
  }
  h.query = h.query.unflatten(2, {part_.heads, part_.key_size});
  h.key = h.key.unflatten(2, {part_.kv_heads, part_.key_size});
  h.value = h.value.unflatten(2, {part_.kv_heads, part_.value_size});
  if (part_.value_scale != 1) h.value = h.value * part_.value_scale;
  const auto norm_heads = [&] {
    if (part_.norms != HeadNorms::kEach) return;
    h.query = normalise(of_, h.query, weights_.at("q_norm"), {});
    h.key = normalise(of_, h.key, weights_.at("k_norm"), {});
  };
  if (!part_.norm_after_rotary) norm_heads();
  if (angles.first.defined()) {
    h.query = turned(h.query, 0, angles.first, angles.second, part_.rotary->interleaved);
    h.key = turned(h.key, 0, angles.first, angles.second, part_.rotary->interleaved);
  }
  if (part_.norm_after_rotary) norm_heads();
  if (part_.weightless_norm) {
    h.query = normalised_alone(h.query, of_.norm_eps);
    h.key = normalised_alone(h.key, of_.norm_eps);
  }
  return h;
}

/// Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1, as released.
TransformerAttentionImpl::Heads TransformerAttentionImpl::make_latent(const torch::Tensor& x,
                                                                      const Angles& angles) const {
  constexpr double kLatentEps = 1e-6;  // of the released code, whatever the model's
  Heads h;
  const auto plain = part_.plain_size;
  const auto turn = [&](const torch::Tensor& rows, int64_t begin) {
    return turned(rows, begin, angles.first, angles.second, part_.rotary->interleaved);
  };
  if (weights_.count("q_a") != 0) {
    const auto latent = nn::rms_norm(map(x, "q_a"), weights_.at("q_a_norm"), kLatentEps);
    h.query = map(latent * part_.query_latent_scale, "q_b");
  } else {
    h.query = map(x, "q");
  }
  h.query = turn(h.query.unflatten(2, {part_.heads, part_.key_size}), plain);
  const auto both = map(x, "kv_a");
  const auto latent =
      nn::rms_norm(both.narrow(2, 0, part_.latent_size), weights_.at("kv_a_norm"), kLatentEps);
  const auto shared =
      turn(both.narrow(2, part_.latent_size, part_.key_size - plain).unsqueeze(2), 0);
  const auto heads = map(latent * part_.latent_scale, "kv_b")
                         .unflatten(2, {part_.heads, plain + part_.value_size});
  h.key = torch::cat({heads.narrow(3, 0, plain), shared.expand({-1, -1, part_.heads, -1})}, 3);
  h.value = heads.narrow(3, plain, part_.value_size);
  return h;
}

}  // namespace moekit::models
