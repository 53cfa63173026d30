#include "moekit/models/sequence_classifier.h"

#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/token_rows.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::models {
namespace {

/// A feed-forward layer's two halves: D -> F and F -> D.
nn::LayerSite up_site(const SequenceConfig& config) {
  return {{config.hidden_size}, config.num_experts, config.intermediate_size};
}
nn::LayerSite down_site(const SequenceConfig& config) {
  return {{config.intermediate_size}, config.num_experts, config.hidden_size};
}

nn::MergedLinear make_linear(const SequenceConfig& config, const nn::LayerSite& site) {
  return nn::MergedLinear(
      config.router->make(site),
      std::make_shared<nn::LinearExpertsImpl>(
          nn::LinearExpertsOptions(site.size(), site.output_size, site.num_experts)),
      nn::MergedLinearOptions().path(config.path).token_reduction(config.token_reduction));
}

void draw(torch::nn::Linear& layer, const at::Generator& generator) {
  const int64_t fan_in = layer->weight.size(1);
  nn::init_uniform_fan_in(layer->weight, fan_in, generator);
  nn::init_uniform_fan_in(layer->bias, fan_in, generator);
}

/// Attention, then the layer of experts, each with a residual connection around it and
/// normalisation before it.
class BlockImpl : public torch::nn::Cloneable<BlockImpl> {
 public:
  explicit BlockImpl(const SequenceConfig& config)
      : heads_(config.num_heads),
        hidden_size_(config.hidden_size),
        up(make_linear(config, up_site(config))),
        down(make_linear(config, down_site(config))) {
    register_all();
  }
  void reset() override {
    up = nn::MergedLinear(std::dynamic_pointer_cast<nn::MergedLinearImpl>(up->clone()));
    down = nn::MergedLinear(std::dynamic_pointer_cast<nn::MergedLinearImpl>(down->clone()));
    register_all();
  }
  /// @param x [B, T, D] @param name  of this block, for the routings it adds
  torch::Tensor forward(torch::Tensor x, const nn::RouterContext& context, const std::string& name,
                        std::vector<nn::LayerRouting>& layers) {
    x = x + tensor::counted("attention", [&] { return attend(norm1_(x)); });
    const auto run = [&](nn::MergedLinear& layer, const char* of, const torch::Tensor& tokens) {
      auto output =
          tensor::counted(of, [&] { return layer->forward_with_routing(tokens, context); });
      layers.push_back({name + "." + of, std::move(output.routing), std::move(output.units), 0});
      return output.values;
    };
    const auto hidden = torch::gelu(run(up, "up", norm2_(x)));
    return x + run(down, "down", hidden).to(x.scalar_type());
  }
  void draw_weights(const at::Generator& routers, const at::Generator& others) {
    draw(qkv_, others);
    draw(out_, others);
    for (auto* layer : {&up, &down}) {
      (*layer)->router->reset_parameters(routers);
      (*layer)->experts->reset_parameters(others);
      if ((*layer)->token_block) (*layer)->token_block->reset_parameters(others);
    }
  }

 private:
  void register_all() {
    const auto normalized = torch::nn::LayerNormOptions({hidden_size_});
    norm1_ = register_module("norm1", torch::nn::LayerNorm(normalized));
    qkv_ = register_module("qkv", torch::nn::Linear(hidden_size_, 3 * hidden_size_));
    out_ = register_module("out", torch::nn::Linear(hidden_size_, hidden_size_));
    norm2_ = register_module("norm2", torch::nn::LayerNorm(normalized));
    register_module("up", up);
    register_module("down", down);
  }
  /// Softmax attention of every token to every token. Source: Vaswani et al. 2017,
  /// arXiv:1706.03762, eq. 1.
  torch::Tensor attend(const torch::Tensor& x) {
    const auto parts = qkv_(x)
                           .view({x.size(0), x.size(1), 3, heads_, hidden_size_ / heads_})
                           .permute({2, 0, 3, 1, 4});  // [3, B, heads, T, D / heads]
    const auto scores = parts[0].matmul(parts[1].transpose(2, 3)) /
                        std::sqrt(static_cast<double>(hidden_size_ / heads_));
    const auto mixed = torch::softmax(scores, 3).matmul(parts[2]);
    return out_(mixed.transpose(1, 2).flatten(2));
  }

  int64_t heads_, hidden_size_;
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
  torch::nn::Linear qkv_{nullptr}, out_{nullptr};

 public:
  nn::MergedLinear up{nullptr}, down{nullptr};
};
TORCH_MODULE(Block);

class SequenceClassifierImpl : public nn::Cloneable<SequenceClassifierImpl, ClassifierImpl> {
 public:
  SequenceClassifierImpl(const SequenceConfig& config, const InputShape& input)
      : config_(config), input_(input) {
    for (int64_t b = 0; b < config.num_blocks; ++b) blocks_.emplace_back(config);
    register_all();
  }
  void reset() override {
    for (auto& block : blocks_) block = Block(std::dynamic_pointer_cast<BlockImpl>(block->clone()));
    register_all();
  }
  ClassifierOutput forward(const torch::Tensor& images, const nn::RouterContext& context) override {
    const nn::TokenRows rows(images, context, /*token_dim=*/3);
    auto of_rows = rows.context;
    of_rows.task_id = torch::Tensor();  // of images; the layers see tokens
    ClassifierOutput output;
    // [N, C, H, W] -> [N, H, C * W]
    auto x = tensor::counted("embed", [&] {
      return embed_(nn::as_parameters(rows.tokens.transpose(1, 2).flatten(2), *embed_)) + position_;
    });
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const auto name = block_name(b);
      x = tensor::counted(name,
                          [&] { return blocks_[b]->forward(x, of_rows, name, output.layers); });
    }
    const auto logits = tensor::counted("head", [&] { return classify_(norm_(x).mean(1)); });
    output.log_probs = rows.restore(torch::log_softmax(nn::at_least_float(logits), 1));
    for (auto& layer : output.layers) {
      layer.routing.rows = rows.rows;
      layer.routing.sequence = torch::Tensor();  // a row is an image, as in other networks
    }
    return output;
  }
  void reset_parameters(uint64_t router_seed, uint64_t experts_seed) override {
    const auto routers = tensor::make_generator(router_seed);
    const auto others = tensor::make_generator(experts_seed);
    draw(embed_, others);
    {
      const torch::NoGradGuard no_grad;
      position_.normal_(0, kPositionScale, others);
    }
    for (auto& block : blocks_) block->draw_weights(routers, others);
    draw(classify_, others);
  }
  bool is_hard() const override { return blocks_[0]->up->router->traits().top_k == 1; }

 private:
  static constexpr double kPositionScale = 0.02;  // as BERT draws its positions

  static std::string block_name(size_t b) { return "block" + std::to_string(b); }
  void register_all() {
    embed_ = register_module(
        "embed", torch::nn::Linear(input_.channels * input_.width, config_.hidden_size));
    position_ = register_parameter("position", torch::zeros({input_.height, config_.hidden_size}));
    for (size_t b = 0; b < blocks_.size(); ++b) register_module(block_name(b), blocks_[b]);
    norm_ = register_module(
        "norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({config_.hidden_size})));
    classify_ =
        register_module("classify", torch::nn::Linear(config_.hidden_size, input_.num_classes));
  }

  SequenceConfig config_;
  InputShape input_;
  torch::nn::Linear embed_{nullptr};
  torch::Tensor position_;  ///< [H, D]
  std::vector<Block> blocks_;
  torch::nn::LayerNorm norm_{nullptr};
  torch::nn::Linear classify_{nullptr};
};

}  // namespace

void check_sequence_classifier(const SequenceConfig& config, const InputShape& /*input*/,
                               const std::string& where) {
  MOEKIT_CHECK(config.hidden_size % config.num_heads == 0, where,
               ".num_heads must divide hidden_size = ", config.hidden_size, "; got ",
               config.num_heads);
  MOEKIT_CHECK(config.token_reduction <= std::min(config.hidden_size, config.intermediate_size),
               where, ".token_reduction must be at most hidden_size and intermediate_size = ",
               std::min(config.hidden_size, config.intermediate_size), "; got ",
               config.token_reduction);
  for (const auto& site : {up_site(config), down_site(config)}) {
    config.router->check(site, where + ".router");
    const auto router = config.router->make(site);
    MOEKIT_CHECK(!router->needs_expert_features(), where, ".router.kind = \"",
                 config.router->name(), "\" takes features of experts; linear ones have none");
    const auto traits = router->traits();
    MOEKIT_CHECK(traits.learns, where, ".router.kind = \"", config.router->name(),
                 "\" is told tasks of images; layers of a sequence take a router that learns");
    nn::check_trainable(traits, traits.no_weight_gradient, where + ".router: ");
  }
}

std::shared_ptr<ClassifierImpl> make_sequence_classifier(const SequenceConfig& config,
                                                         const InputShape& input) {
  return std::make_shared<SequenceClassifierImpl>(config, input);
}

}  // namespace moekit::models
