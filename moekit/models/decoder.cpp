#include "moekit/models/decoder.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "moekit/core/error.h"
#include "moekit/models/classifier.h"
#include "moekit/nn/attention.h"
#include "moekit/nn/bit_linear.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/parts.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::models {
namespace {

nn::LayerSite site_of(const DecoderConfig& config, int64_t vocabulary_size) {
  nn::LayerSite site{{config.expert_dim()}, config.num_experts, config.expert_dim()};
  site.vocabulary_size = vocabulary_size;
  return site;
}

/// A bank of the experts' kind that runs on every token, whole.
std::shared_ptr<nn::ExpertsImpl> make_shared_experts(const DecoderConfig& config) {
  if (config.num_shared == 0) return nullptr;
  return config.expert->make(
      nn::LayerSite{{config.hidden_size}, config.num_shared, config.hidden_size});
}

/// @param first  whether no block before has one
nn::MoE make_mixture(const DecoderConfig& config, int64_t vocabulary_size, bool first) {
  auto site = site_of(config, vocabulary_size);
  if (!first) site.previous_experts = config.num_experts;
  auto parts = make_parts(config.router, config.expert, site);
  return nn::MoE(std::move(parts.router), std::move(parts.experts),
                 nn::MoEOptions().capacity(config.capacity),
                 config.multi_head.any() ? nullptr : make_shared_experts(config));
}

/// A mixture's logits, a row for each token, zeros for masked ones, which it has none of.
torch::Tensor logits_of_all(const nn::Routing& routing, int64_t tokens) {
  if (!routing.rows.defined()) return routing.logits;
  const auto& logits = routing.logits;
  return torch::zeros({tokens, logits.size(1)}, logits.options().requires_grad(false))
      .index_copy(0, routing.rows, logits);
}

nn::MlpExperts make_dense(const DecoderConfig& config) {
  return nn::MlpExperts(nn::MlpExpertsOptions(config.dense)
                            .hidden_size(config.hidden_size)
                            .num_experts(1)
                            .output_size(config.hidden_size));
}

/// The maps of a block that adapters stand beside.
enum class Map { kQuery, kKey, kValue, kOutput, kGate, kUp, kDown };
constexpr std::array kMapNames{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                               "gate_proj", "up_proj", "down_proj"};

/// One feed-forward network on all rows, on the experts' kernels where they take it.
torch::Tensor run_dense(nn::MlpExpertsImpl& network, const torch::Tensor& tokens) {
  const auto rows = tokens.flatten(0, 1);
  return nn::forward_each(network, rows, torch::zeros({rows.size(0)}, torch::kLong))
      .view_as(tokens);
}

}  // namespace

DecoderConfig::DecoderConfig() {
  dense.activation(nn::Activation::kSwiglu).bias(false);
  dense.intermediate_size(256);
  expert->select("mlp");
  expert->as<nn::MlpExpertsOptions>().activation(nn::Activation::kSwiglu).bias(false);
  router->as<nn::LinearRouterConfig>().router.top_k(2).bias(false);
}

namespace {

/// With adapters the maps of a dense network run one by one, in float.
void check_adapted(const DecoderConfig& config, const std::string& where) {
  const auto& dense = config.dense;
  const nn::MlpExpertsOptions usual;
  MOEKIT_CHECK(dense.weights() == nn::WeightLevels::kFloat, where,
               ".adapters stand beside float maps: wants dense.weights = \"float\"; got \"",
               enum_name(dense.weights()), "\"");
  MOEKIT_CHECK(dense.compute() == usual.compute() &&
                   dense.keep_activations() == usual.keep_activations() &&
                   dense.init() == usual.init(),
               where, ".dense: compute, keep_activations and init have no effect with adapters");
  const int64_t least = std::min(
      {config.hidden_size, dense.intermediate_size(), config.kv_heads() * config.dim_of_head()});
  MOEKIT_CHECK(!config.adapters.orthogonal() || config.adapters.num_experts() <= least, where,
               ".adapters.num_experts must be at most ", least,
               ", the size of a map's outputs, where they are made orthogonal; got ",
               config.adapters.num_experts());
}

}  // namespace

void check_decoder(const DecoderConfig& config, int64_t vocabulary_size, const std::string& where) {
  MOEKIT_CHECK(vocabulary_size >= 1, where, ": the vocabulary is empty");
  MOEKIT_CHECK(config.head_size > 0 || config.hidden_size % config.num_heads == 0, where,
               ".num_heads must divide hidden_size = ", config.hidden_size,
               " unless head_size is given; got ", config.num_heads);
  MOEKIT_CHECK(config.dim_of_head() % 2 == 0, where, ".head_size must be even, for rotary ",
               "positions turn pairs; got ", config.dim_of_head());
  MOEKIT_CHECK(config.num_heads % config.kv_heads() == 0, where,
               ".num_kv_heads must divide num_heads = ", config.num_heads, "; got ",
               config.num_kv_heads);
  MOEKIT_CHECK(config.hidden_size % config.multi_head.token_heads() == 0, where,
               ".token_heads must divide hidden_size = ", config.hidden_size, "; got ",
               config.multi_head.token_heads());
  nn::check_low_rank(config.adapters, where + ".adapters");
  MOEKIT_CHECK(config.adapters.num_experts() == 0 || config.routed_every == 0, where,
               ".adapters stand beside the maps of dense networks: wants routed_every = 0; got ",
               config.routed_every);
  if (config.adapters.num_experts() > 0) check_adapted(config, where);
  int64_t routed = 0;
  for (int64_t l = 0; l < config.num_layers; ++l) routed += config.routed(l) ? 1 : 0;
  MOEKIT_CHECK(routed > 0 || config.routed_every == 0, where,
               ".first_routed must be below num_layers = ", config.num_layers, "; got ",
               config.first_routed, "; routed_every = 0 makes a model without mixtures");
  MOEKIT_CHECK(routed > 0 || !config.multi_head.any(), where,
               ".token_heads, head_layer and merge_layer have no effect without mixtures");
  if (routed < config.num_layers) about(where + ".dense", [&] { make_dense(config); });
  if (routed == 0) return;
  auto site = site_of(config, vocabulary_size);
  if (routed > 1) site.previous_experts = config.num_experts;
  check_parts(config.router, config.expert, site, where);
  const auto parts = make_parts(config.router, config.expert, site);
  check_sparse_parts(*parts.router, *parts.experts, config.capacity, where);
}

/// What the parts of a block are told in a forward pass, and where they put what was routed.
struct BlockPass {
  const nn::RouterContext& context;
  const std::string& name;
  std::vector<nn::LayerRouting>& layers;
};

/// A block: x + attention(norm(x)), then x + feed_forward(norm(x)).
class DecoderBlockImpl : public torch::nn::Cloneable<DecoderBlockImpl> {
 public:
  DecoderBlockImpl(const DecoderConfig& config, int64_t vocabulary_size, int64_t number)
      : config_(config) {
    if (config.routed(number)) {
      moe = make_mixture(config, vocabulary_size, number == config.first_routed);
      if (config.multi_head.any()) {
        multi_head = nn::MultiHeadMoE(config.hidden_size, config.multi_head, moe,
                                      make_shared_experts(config));
      }
    } else {
      dense = make_dense(config);
      make_adapters();
    }
    register_all();
  }
  void reset() override {
    const auto copy = [](auto& holder) {
      using Holder = std::decay_t<decltype(holder)>;
      if (holder) {
        holder = Holder(std::dynamic_pointer_cast<typename Holder::ContainedType>(holder->clone()));
      }
    };
    copy(multi_head);
    if (multi_head) {
      moe = multi_head->moe;
    } else {
      copy(moe);
    }
    copy(dense);
    for (auto& adapter : adapters_) copy(adapter);
    register_all();
  }

  /// @param x [B, T, D] @param block  its number, for the cache
  torch::Tensor forward(torch::Tensor x, const nn::RouterContext& context,
                        const nn::AttentionSettings& settings, const nn::RotaryTable& rotary,
                        DecoderCache* cache, size_t block, std::vector<nn::LayerRouting>& layers,
                        const std::string& name) {
    const BlockPass pass{context, name, layers};
    x = x + tensor::counted("attention", [&] {
          return attend(input_norm_(x), settings, rotary, cache, block, pass);
        });
    const auto inner = post_norm_(x);
    if (dense) {
      return x + tensor::counted("feed-forward", [&] {
               return adapters_.empty() ? run_dense(*dense, inner) : run_adapted(inner, pass);
             });
    }
    auto output = tensor::counted("mixture", [&] {
      return multi_head ? multi_head->forward_with_routing(inner, context)
                        : moe->forward_with_routing(inner, context);
    });
    layers.push_back(
        {name, std::move(output.routing), std::move(output.tokens), output.plan.num_dropped()});
    return x + output.values;
  }

  void draw_weights(const at::Generator& routers, const at::Generator& others, double std) {
    {
      const torch::NoGradGuard no_grad;
      for (auto* map : {&query_, &key_, &value_}) (*map)->weight.normal_(0, std, others);
      // So that the sum over all blocks' outputs has one size at any depth. Source: Radford et al.
      // 2019 (GPT-2), section 2.3.
      const double depth = 2.0 * static_cast<double>(config_.num_layers);
      output_->weight.normal_(0, std / std::sqrt(depth), others);
    }
    for (auto& adapter : adapters_) {
      if (adapter) adapter->reset_parameters(routers, others);
    }
    if (dense) return dense->reset_parameters(others);
    if (multi_head) multi_head->reset_parameters(others);
    moe->router->reset_parameters(routers);
    moe->experts->reset_parameters(others);
    if (moe->shared_experts) moe->shared_experts->reset_parameters(others);
  }

  nn::MoE moe{nullptr};
  nn::MultiHeadMoE multi_head{nullptr};  ///< around `moe`, where there is one
  nn::MlpExperts dense{nullptr};

 private:
  /// The map's output with what the adapter beside it adds.
  torch::Tensor adapted(const torch::Tensor& y, const torch::Tensor& x, Map map,
                        const BlockPass& pass) {
    if (adapters_.empty()) return y;
    const auto at = static_cast<size_t>(map);
    return y + tensor::counted("mixture", [&] {
             return adapters_[at]->forward(x, pass.context, concat(pass.name, ".", kMapNames[at]),
                                           pass.layers);
           });
  }

  torch::Tensor run_adapted(const torch::Tensor& x, const BlockPass& pass) {
    const auto map = [&](const torch::Tensor& in, const torch::Tensor& weight,
                         const torch::Tensor& bias, Map which) {
      const auto y = in.matmul(weight[0].t());
      return adapted(bias.defined() ? y + bias[0] : y, in, which, pass);
    };
    const auto activation = dense->options.activation();
    const auto up = map(x, dense->up_proj, dense->up_bias, Map::kUp);
    const auto hidden =
        dense->gate_proj.defined()
            ? nn::activate(map(x, dense->gate_proj, dense->gate_bias, Map::kGate), activation) * up
            : nn::activate(up, activation);
    return map(hidden, dense->down_proj, dense->down_bias, Map::kDown);
  }

  torch::Tensor attend(const torch::Tensor& x, const nn::AttentionSettings& settings,
                       const nn::RotaryTable& rotary, DecoderCache* cache, size_t block,
                       const BlockPass& pass) {
    const int64_t first = cache == nullptr ? 0 : cache->length();
    const auto heads = [&](nn::BitLinear& map, Map which, int64_t count, nn::RmsNorm* norm) {
      auto out = adapted(map(x), x, which, pass)
                     .view({x.size(0), x.size(1), count, config_.dim_of_head()});
      return norm != nullptr && *norm ? (*norm)(out) : out;
    };
    const auto query = nn::apply_rotary(heads(query_, Map::kQuery, config_.num_heads, &query_norm_),
                                        rotary, first);
    auto key =
        nn::apply_rotary(heads(key_, Map::kKey, config_.kv_heads(), &key_norm_), rotary, first);
    auto value = heads(value_, Map::kValue, config_.kv_heads(), nullptr);
    if (cache != nullptr) {
      const auto keep = [&](torch::Tensor& kept, const torch::Tensor& added) {
        kept.narrow(1, first, x.size(1)).copy_(added);
        return kept.narrow(1, 0, first + x.size(1));
      };
      key = keep(cache->keys_[block], key);
      value = keep(cache->values_[block], value);
    }
    const auto mixed = nn::causal_attention(query, key, value, settings).flatten(2);
    return adapted(output_(mixed), mixed, Map::kOutput, pass);
  }

  void register_all() {
    const int64_t d = config_.hidden_size;
    const int64_t dim = config_.dim_of_head();
    const double eps = config_.norm_eps;
    input_norm_ = register_module("input_layernorm", nn::RmsNorm(d, eps));
    // The block's own norm stands before queries, keys and values.
    const auto map = [&](int64_t in, int64_t out, bool norm) {
      return nn::BitLinear(
          nn::BitLinearOptions(in, out).levels(config_.attention_weights).norm(norm));
    };
    query_ = register_module("q_proj", map(d, config_.num_heads * dim, false));
    key_ = register_module("k_proj", map(d, config_.kv_heads() * dim, false));
    value_ = register_module("v_proj", map(d, config_.kv_heads() * dim, false));
    output_ = register_module("o_proj", map(config_.num_heads * dim, d, true));
    if (config_.qk_norm) {
      query_norm_ = register_module("q_norm", nn::RmsNorm(dim, eps));
      key_norm_ = register_module("k_norm", nn::RmsNorm(dim, eps));
    }
    post_norm_ = register_module("post_attention_layernorm", nn::RmsNorm(d, eps));
    if (multi_head) {
      register_module("multi_head", multi_head);
    } else if (moe) {
      register_module("moe", moe);
    }
    if (dense) register_module("mlp", dense);
    for (size_t i = 0; i < adapters_.size(); ++i) {
      if (adapters_[i]) register_module(concat(kMapNames[i], kAdapterSuffix), adapters_[i]);
    }
  }

  void make_adapters() {
    if (config_.adapters.num_experts() == 0) return;
    const int64_t d = config_.hidden_size;
    const int64_t heads = config_.num_heads * config_.dim_of_head();
    const int64_t kv_heads = config_.kv_heads() * config_.dim_of_head();
    const int64_t f = config_.dense.intermediate_size();
    for (const auto& [in, out] : std::vector<std::pair<int64_t, int64_t>>{
             {d, heads}, {d, kv_heads}, {d, kv_heads}, {heads, d}, {d, f}, {d, f}, {f, d}}) {
      adapters_.emplace_back(in, out, config_.adapters);
    }
    if (!dense->gate_proj.defined()) {
      adapters_[static_cast<size_t>(Map::kGate)] = nn::LowRankMixture(nullptr);
    }
  }

  DecoderConfig config_;
  nn::RmsNorm input_norm_{nullptr}, post_norm_{nullptr}, query_norm_{nullptr}, key_norm_{nullptr};
  std::vector<nn::LowRankMixture> adapters_;  ///< by Map; empty without
  nn::BitLinear query_{nullptr}, key_{nullptr}, value_{nullptr}, output_{nullptr};
};

DecoderCache::DecoderCache(const DecoderConfig& config, int64_t batch, int64_t capacity) {
  MOEKIT_CHECK(batch >= 1 && capacity >= 1, "DecoderCache: batch and capacity must be at least 1");
  const std::vector<int64_t> sizes{batch, capacity, config.kv_heads(), config.dim_of_head()};
  for (int64_t l = 0; l < config.num_layers; ++l) {
    keys_.push_back(torch::zeros(sizes));
    values_.push_back(torch::zeros(sizes));
  }
}

DecoderImpl::DecoderImpl(DecoderConfig config, int64_t vocabulary_size)
    : config_(std::move(config)), vocabulary_size_(vocabulary_size) {
  check_decoder(config_, vocabulary_size, "model");
  rotary_ = nn::rotary_table(config_.context, config_.dim_of_head(), config_.rope_theta);
  for (int64_t l = 0; l < config_.num_layers; ++l) {
    blocks_.push_back(std::make_shared<DecoderBlockImpl>(config_, vocabulary_size, l));
  }
  register_all();
}

void DecoderImpl::reset() {
  for (auto& block : blocks_) {
    block = std::dynamic_pointer_cast<DecoderBlockImpl>(block->clone());
  }
  register_all();
}

void DecoderImpl::register_all() {
  const std::vector<int64_t> sizes{vocabulary_size_, config_.hidden_size};
  embedding_ = register_parameter("embed_tokens", torch::zeros(sizes));
  for (size_t l = 0; l < blocks_.size(); ++l) {
    register_module("layer" + std::to_string(l), blocks_[l]);
  }
  norm_ = register_module("norm", nn::RmsNorm(config_.hidden_size, config_.norm_eps));
  if (!config_.tied_embeddings) head_ = register_parameter("lm_head", torch::zeros(sizes));
}

void DecoderImpl::reset_parameters(uint64_t router_seed, uint64_t experts_seed) {
  const auto routers = tensor::make_generator(router_seed);
  const auto others = tensor::make_generator(experts_seed);
  {
    const torch::NoGradGuard no_grad;
    embedding_.normal_(0, config_.init_std, others);
    if (head_.defined()) head_.normal_(0, config_.init_std, others);
  }
  for (auto& block : blocks_) block->draw_weights(routers, others, config_.init_std);
}

DecoderOutput DecoderImpl::run(const torch::Tensor& ids, nn::RouterContext context,
                               const torch::Tensor& first, DecoderCache* cache) {
  MOEKIT_CHECK(ids.dim() == 2 && ids.scalar_type() == torch::kLong,
               "Decoder: ids must be int64 [B, T]; got ", ids.sizes());
  const int64_t begin = cache == nullptr ? 0 : cache->length();
  MOEKIT_CHECK(begin + ids.size(1) <= config_.context, "Decoder: ", begin + ids.size(1),
               " tokens; the model's context is ", config_.context);
  if (ids.numel() > 0) {
    const auto least = ids.min().item<int64_t>();
    const auto most = ids.max().item<int64_t>();
    MOEKIT_CHECK(least >= 0 && most < vocabulary_size_, "Decoder: ids must be 0..",
                 vocabulary_size_ - 1, "; got ", least < 0 ? least : most);
  }
  nn::AttentionSettings settings;
  settings.scale = 1 / std::sqrt(static_cast<double>(config_.dim_of_head()));
  settings.first = first;
  context.token_id = ids;
  DecoderOutput output;
  auto x = torch::embedding(embedding_, ids);
  for (size_t l = 0; l < blocks_.size(); ++l) {
    const auto name = "layer" + std::to_string(l);
    x = tensor::counted(name, [&] {
      return blocks_[l]->forward(x, context, settings, rotary_, cache, l, output.layers, name);
    });
    if (output.layers.empty() || config_.routed_every == 0) continue;  // adapters tell no router
    context.previous_logits =
        logits_of_all(output.layers.back().routing, ids.numel() * config_.multi_head.token_heads());
  }
  if (cache != nullptr) cache->length_ += ids.size(1);
  output.hidden = norm_(x);
  return output;
}

DecoderOutput DecoderImpl::with_logits(DecoderOutput output) const {
  output.logits = tensor::counted("head", [&] { return output.hidden.matmul(head_weight().t()); });
  return output;
}

DecoderOutput DecoderImpl::forward_hidden(const torch::Tensor& ids,
                                          const nn::RouterContext& context,
                                          const torch::Tensor& first) {
  return run(ids, context, first, nullptr);
}

DecoderOutput DecoderImpl::forward(const torch::Tensor& ids, const nn::RouterContext& context,
                                   const torch::Tensor& first) {
  return with_logits(run(ids, context, first, nullptr));
}

DecoderOutput DecoderImpl::forward_cached(const torch::Tensor& ids,
                                          const nn::RouterContext& context, DecoderCache& cache) {
  const torch::NoGradGuard no_grad;  // what a cache holds has no graph
  MOEKIT_CHECK(ids.dim() == 2 && ids.size(0) == cache.keys_.front().size(0) &&
                   cache.length() + ids.size(1) <= cache.capacity(),
               "Decoder: the cache has room for ", cache.capacity() - cache.length(), " tokens of ",
               cache.keys_.front().size(0), " texts; got ", ids.sizes());
  return with_logits(run(ids, context, {}, &cache));
}

}  // namespace moekit::models
