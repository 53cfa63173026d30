#include "moekit/models/transformer.h"

#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "moekit/core/error.h"
#include "moekit/models/transformer_attention.h"
#include "moekit/nn/experts/clamped_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/packed_mlp_experts.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/scored_router.h"
#include "moekit/nn/routers/sparsemixer_router.h"

namespace moekit::models {

namespace {

using Pass = TransformerPass;
using published::Architecture;
using published::BlockPart;
using published::MixturePart;
using published::NamedShape;
using published::RouterRule;
using published::WeightReader;

/// Softmax over all without anything else: what a linear router does.
bool is_linear(const RouterRule& rule) {
  return rule.scores != RouterRule::Scores::kSigmoid && !rule.correction && rule.num_groups == 1 &&
         rule.scale == 1;
}

std::shared_ptr<nn::RouterImpl> make_router(const MixturePart& mixture, int64_t hidden_size,
                                            bool bias) {
  const auto& rule = mixture.rule;
  const auto choices = mixture.num_experts + mixture.num_identity;
  if (rule.weights == RouterRule::Weights::kSigmoid) {
    return nn::LinearRouter(nn::LinearRouterOptions(hidden_size, choices)
                                .top_k(mixture.top_k)
                                .bias(bias)
                                .combine_weights(nn::CombineWeights::kLogits))
        .ptr();
  }
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
  auto options = nn::ScoredRouterOptions(hidden_size, choices)
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
  const auto parameters = bank.named_parameters(/*recurse=*/false);
  parameters["gate_proj"][e].copy_(gate);
  parameters["up_proj"][e].copy_(up);
  parameters["down_proj"][e].copy_(down);
}

/// Biases of all experts, where gate and up values take turns.
void fill_biases(nn::ExpertsImpl& bank, const std::string& prefix,
                 const std::vector<NamedShape>& tensors, const WeightReader& weights) {
  if (tensors.empty()) return;
  const auto parameters = bank.named_parameters(/*recurse=*/false);
  for (const auto& tensor : tensors) {
    const auto values = weights.read(prefix, tensor);
    if (tensor.role == "down_bias") {
      parameters["down_bias"].copy_(values);
    } else {
      const auto pairs = values.unflatten(1, {-1, 2});
      parameters["gate_bias"].copy_(pairs.select(2, 0));
      parameters["up_bias"].copy_(pairs.select(2, 1));
    }
  }
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
  if (architecture.activation != "silu" && architecture.activation != "swish") {
    return "feed-forward networks with activation " + architecture.activation;
  }
  for (size_t l = 0; l < architecture.blocks.size(); ++l) {
    for (const auto& attention : architecture.blocks[l].attention) {
      if (!attention.softmax) return concat("layer ", l, ": ", attention.kind);
    }
  }
  return {};
}

/// One block.
class TransformerBlockImpl : public torch::nn::Module {
 public:
  /// @param slot  of the cache, of its first attention
  TransformerBlockImpl(const Architecture& architecture, size_t layer, size_t slot, Format format)
      : of_(architecture), part_(architecture.blocks[layer]), layer_(static_cast<int64_t>(layer)) {
    const auto d = of_.hidden_size;
    for (size_t i = 0; i < part_.attention.size(); ++i) {
      attention_.push_back(register_module(
          concat("attention", i), TransformerAttention(of_, part_.attention[i], slot + i)));
    }
    for (const auto& tensor : part_.norms) {
      norms_[tensor.role] = register_parameter("norm_" + tensor.role, torch::zeros(tensor.shape));
    }
    for (size_t i = 0; part_.dense_width > 0 && i < part_.attention.size(); ++i) {
      dense_.push_back(
          register_module(concat("dense", i), make_experts(d, part_.dense_width, 1, format)));
    }
    if (!part_.mixture) return;
    const auto& mixture = *part_.mixture;
    bool bias = false;
    for (const auto& tensor : mixture.storages.front().router) bias |= tensor.role == "bias";
    router_ = register_module("router", make_router(mixture, d, bias));
    experts_ = register_module("experts", about(concat(of_.where, ": layer ", layer_),
                                                [&] { return make_bank(mixture, d, format); }));
    if (mixture.shared_width > 0) {
      shared_ = register_module("shared", make_experts(d, mixture.shared_width, 1, format));
    }
    if (mixture.shared_gate) {
      shared_gate_ = register_parameter("shared_gate", torch::zeros({1, d}));
    }
  }

  void load(const WeightReader& weights) {
    const auto prefix = concat(of_.layer_prefix, layer_, ".");
    for (auto& attention : attention_) attention->load(weights, prefix);
    for (const auto& tensor : part_.norms) {
      norms_.at(tensor.role).copy_(weights.read(prefix, tensor));
    }
    for (size_t i = 0; i < dense_.size(); ++i) {
      fill_network(*dense_[i], 0, part_.dense_width, prefix, dense_tensors(i), weights);
    }
    if (part_.mixture) load_mixture(*part_.mixture, prefix, weights);
  }

  torch::Tensor forward(torch::Tensor x, const Pass& pass, TransformerOutput& output) {
    if (part_.twofold) return forward_twofold(x, pass, output);
    const auto feed_forward = [&](const torch::Tensor& in) {
      return dense_.empty() ? run_mixture(in, pass, output) : run_whole(*dense_.front(), in);
    };
    if (part_.parallel) {
      const auto normalised = norm(x, "attention_in");
      return x + attention_.front()->forward(normalised, pass) + feed_forward(normalised);
    }
    const auto step = [&](const char* before, const char* behind, double keep, double add,
                          const auto& run) {
      const auto normalised = norm(x, before);
      const auto made = norm(run(normalised), behind);
      const auto& kept = part_.keeps_normalised ? normalised : x;
      x = (keep == 1 ? kept : kept * keep) + (add == 1 ? made : made * add);
    };
    step("attention_in", "attention_out", part_.attention_keep, part_.attention_add,
         [&](const torch::Tensor& in) { return attention_.front()->forward(in, pass); });
    step("ffn_in", "ffn_out", part_.ffn_keep, part_.ffn_add, feed_forward);
    return x;
  }

 private:
  /// Source: Meituan 2025, arXiv:2509.01322, section 2.2 (shortcut-connected mixtures).
  torch::Tensor forward_twofold(torch::Tensor x, const Pass& pass, TransformerOutput& output) {
    torch::Tensor routed;
    for (size_t i = 0; i < 2; ++i) {
      x = x + attention_[i]->forward(norm(x, concat("attention_in", i)), pass);
      const auto in = norm(x, concat("ffn_in", i));
      if (i == 0) routed = run_mixture(in, pass, output);
      x = x + run_whole(*dense_[i], in);
    }
    return x + routed;
  }

  /// Of the dense network `i`; of two, roles end in its number.
  std::vector<NamedShape> dense_tensors(size_t i) const {
    if (!part_.twofold) return part_.dense;
    std::vector<NamedShape> out;
    for (auto tensor : part_.dense) {
      if (tensor.role.back() != static_cast<char>('0' + i)) continue;
      tensor.role.pop_back();
      out.push_back(std::move(tensor));
    }
    return out;
  }

  void load_mixture(const MixturePart& mixture, const std::string& prefix,
                    const WeightReader& weights) {
    const auto& storages = mixture.storages;
    const auto& storage = storages[std::min(weights.storage(), storages.size() - 1)];
    load_router(storage.router, prefix, weights);
    for (int64_t e = 0; !storage.each.empty() && e < mixture.num_experts; ++e) {
      auto tensors = storage.each;
      for (auto& tensor : tensors) tensor.name = published::name_of_expert(tensor.name, e);
      fill_network(*experts_, e, mixture.width, prefix, tensors, weights);
    }
    if (!storage.all.empty()) fill_bank(*experts_, mixture, prefix, storage.all, weights);
    fill_biases(*experts_, prefix, storage.biases, weights);
    if (shared_) {
      fill_network(*shared_, 0, mixture.shared_width, prefix, mixture.shared, weights);
    }
    for (const auto& tensor : mixture.shared) {
      if (tensor.role == "expert_gate") shared_gate_.copy_(weights.read(prefix, tensor));
    }
  }

  void load_router(const std::vector<NamedShape>& tensors, const std::string& prefix,
                   const WeightReader& weights) {
    // "weight" and "bias" are parameters, "correction" is a buffer, whatever the router.
    const auto parameters = router_->named_parameters(/*recurse=*/false);
    const auto buffers = router_->named_buffers(/*recurse=*/false);
    for (const auto& tensor : tensors) {
      auto to = parameters.contains(tensor.role) ? parameters[tensor.role] : buffers[tensor.role];
      to.copy_(weights.read(prefix, tensor).view_as(to));
    }
  }

  /// By the architecture's kind, where the block has such a norm.
  torch::Tensor norm(const torch::Tensor& x, const std::string& role) const {
    const auto at = norms_.find(role);
    if (at == norms_.end()) return x;
    const auto bias = norms_.find(role + "_bias");
    return normalise(of_, x, at->second, bias == norms_.end() ? torch::Tensor() : bias->second);
  }

  static torch::Tensor run_whole(nn::ExpertsImpl& network, const torch::Tensor& x) {
    const auto rows = x.flatten(0, 1);
    return nn::forward_each(network, rows, torch::zeros({rows.size(0)}, torch::kLong)).view_as(x);
  }

  torch::Tensor run_mixture(const torch::Tensor& x, const Pass& pass, TransformerOutput& output) {
    const auto& mixture = *part_.mixture;
    const auto tokens = x.flatten(0, 1);
    auto routing = router_->forward(tokens, {});
    if (mixture.rule.weights == RouterRule::Weights::kSigmoid) {
      routing.weight = torch::sigmoid(routing.weight);
    }
    auto routed = run_experts(tokens, routing).view_as(x);
    // What stands at padding is nobody's.
    if (pass.mask.defined()) routed = routed * pass.mask.unsqueeze(2);
    auto out = routed;
    if (shared_) {
      auto shared = run_whole(*shared_, x);
      if (shared_gate_.defined()) shared = shared * torch::sigmoid(product(x, shared_gate_));
      out = out + shared;
      if (mixture.shared_average) out = out / 2;
    }
    output.mixtures.push_back(
        {layer_, x, mixture.shared_beside ? routed : out, std::move(routing)});
    return out;
  }

  torch::Tensor run_experts(const torch::Tensor& tokens, const nn::Routing& routing) {
    const auto& mixture = *part_.mixture;
    if (mixture.rule.on_input) {
      // An expert takes its tokens times their weights.
      const auto rows = tokens.index_select(0, routing.token) * routing.weight.unsqueeze(1);
      return torch::zeros_like(tokens).index_add(0, routing.token,
                                                 nn::forward_each(*experts_, rows, routing.expert));
    }
    if (mixture.num_identity == 0) return run_plan(tokens, nn::make_plan(routing), routing.weight);
    // Experts from num_experts on give their tokens back.
    const auto computes = routing.expert < mixture.num_experts;
    const auto kept = computes.nonzero().squeeze(1);
    auto some = nn::route_assignments(
        routing.logits.narrow(1, 0, mixture.num_experts), routing.token.index_select(0, kept),
        routing.expert.index_select(0, kept), routing.weight.index_select(0, kept));
    const auto back =
        (routing.weight * computes.logical_not()).view({tokens.size(0), -1}).sum(1, true);
    return run_plan(tokens, nn::make_plan(some), some.weight) + tokens * back;
  }

  torch::Tensor run_plan(const torch::Tensor& tokens, const nn::RoutingPlan& plan,
                         const torch::Tensor& weight) {
    if (experts_->why_not_fused(tokens).empty()) {
      return experts_->forward_fused(tokens, plan, weight, nn::Runtime::standard());
    }
    return nn::combine(experts_->forward_dispatched(tokens, plan), plan, weight);
  }

  const Architecture& of_;
  BlockPart part_;
  int64_t layer_;
  std::vector<TransformerAttention> attention_;
  std::map<std::string, torch::Tensor> norms_;  ///< by role
  std::shared_ptr<nn::RouterImpl> router_;
  std::shared_ptr<nn::ExpertsImpl> experts_, shared_;
  std::vector<std::shared_ptr<nn::ExpertsImpl>> dense_;  ///< one for each attention, or none
  torch::Tensor shared_gate_;
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
  size_t slot = 0;
  for (size_t l = 0; l < architecture_.blocks.size(); ++l) {
    blocks_.push_back(std::make_shared<TransformerBlockImpl>(architecture_, l, slot, format));
    register_module(concat("layer", l), blocks_.back());
    slot += architecture_.blocks[l].attention.size();
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
    for (const auto& part : block.attention) {
      keys_.push_back(torch::zeros({batch, capacity, part.kv_heads, part.key_size}));
      values_.push_back(torch::zeros({batch, capacity, part.kv_heads, part.value_size}));
    }
  }
}

std::pair<torch::Tensor, torch::Tensor> TransformerCache::extend(size_t slot,
                                                                 const torch::Tensor& key,
                                                                 const torch::Tensor& value) {
  const auto keep = [&](torch::Tensor& kept, const torch::Tensor& added) {
    kept.narrow(1, length_, added.size(1)).copy_(added);
    return kept.narrow(1, 0, length_ + added.size(1));
  };
  return {keep(keys_[slot], key), keep(values_[slot], value)};
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
  out.normalised = normalise(architecture_, x, norm_, norm_bias_);
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
