#include "moekit/models/sparse_classifier.h"

#include <torch/nn/modules/linear.h>

#include "moekit/core/error.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/precision.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::models {
namespace {

class SparseClassifierImpl : public nn::Cloneable<SparseClassifierImpl, ClassifierImpl> {
 public:
  SparseClassifierImpl(int64_t hidden_size, const InputShape& input, nn::MoE moe)
      : hidden_size_(hidden_size), input_(input), moe_(std::move(moe)) {
    register_all();
  }
  void reset() override {
    moe_ = nn::MoE(std::dynamic_pointer_cast<nn::MoEImpl>(moe_->clone()));
    register_all();
  }
  ClassifierOutput forward(const torch::Tensor& images, const nn::RouterContext& context) override {
    const auto hidden = torch::relu(tensor::counted(
        "embed", [&] { return embed_(nn::as_parameters(images.flatten(1), *embed_)); }));
    const auto moe =
        tensor::counted("moe", [&] { return moe_->forward_with_routing(hidden, context); });
    ClassifierOutput output;
    const auto logits = tensor::counted(
        "head", [&] { return classify_(nn::as_parameters(hidden + moe.values, *classify_)); });
    output.log_probs = torch::log_softmax(nn::at_least_float(logits), 1);
    output.layers.push_back({"moe", moe.routing, moe.tokens, moe.plan.num_dropped()});
    return output;
  }
  void reset_parameters(uint64_t router_seed, uint64_t experts_seed) override {
    moe_->router->reset_parameters(tensor::make_generator(router_seed));
    auto generator = tensor::make_generator(experts_seed);
    moe_->experts->reset_parameters(generator);
    if (moe_->shared_experts) moe_->shared_experts->reset_parameters(generator);
    for (auto* layer : {&embed_, &classify_}) {
      const int64_t fan_in = (*layer)->weight.size(1);
      nn::init_uniform_fan_in((*layer)->weight, fan_in, generator);
      nn::init_uniform_fan_in((*layer)->bias, fan_in, generator);
    }
  }
  bool is_hard() const override { return moe_->router->traits().top_k == 1; }

 private:
  void register_all() {
    embed_ = register_module("embed", torch::nn::Linear(input_.pixels(), hidden_size_));
    register_module("moe", moe_);
    classify_ = register_module("classify", torch::nn::Linear(hidden_size_, input_.num_classes));
  }
  int64_t hidden_size_;
  InputShape input_;
  torch::nn::Linear embed_{nullptr};
  nn::MoE moe_{nullptr};
  torch::nn::Linear classify_{nullptr};
};

nn::LayerSite vector_site(const SparseConfig& config, const InputShape& input,
                          int64_t num_experts) {
  return {{config.hidden_size}, num_experts, config.hidden_size, 0, input.num_classes};
}

}  // namespace

void check_sparse_classifier(const SparseConfig& config, const InputShape& input,
                             const std::string& where) {
  const auto site = vector_site(config, input, config.num_experts);
  check_parts(config.router, config.expert, site, where);
  const auto parts = make_parts(config.router, config.expert, site);
  check_sparse_parts(*parts.router, *parts.experts, config.capacity, where);
}

std::shared_ptr<ClassifierImpl> make_sparse_classifier(const SparseConfig& config,
                                                       const InputShape& input) {
  auto parts =
      make_parts(config.router, config.expert, vector_site(config, input, config.num_experts));
  const int64_t shared = config.num_shared_experts;
  nn::MoE moe(std::move(parts.router), std::move(parts.experts),
              nn::MoEOptions().capacity(config.capacity),
              shared > 0 ? config.expert->make(vector_site(config, input, shared)) : nullptr);
  return std::make_shared<SparseClassifierImpl>(config.hidden_size, input, std::move(moe));
}

}  // namespace moekit::models
