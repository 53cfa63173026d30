#include "moekit/models/classifier.h"

#include <torch/nn/modules/linear.h>

#include "moekit/core/error.h"
#include "moekit/models/parts.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/mixture.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/parts.h"
#include "moekit/tensor/generator.h"

namespace moekit::models {
namespace {

/// One expert, no router.
class SingleClassifierImpl : public nn::Cloneable<SingleClassifierImpl, ClassifierImpl> {
 public:
  explicit SingleClassifierImpl(std::shared_ptr<nn::ExpertsImpl> expert)
      : expert_(std::move(expert)) {
    nn::register_part(*this, "experts", expert_);
  }
  void reset() override { nn::register_copy(*this, "experts", expert_); }
  ClassifierOutput forward(const torch::Tensor& images, const nn::RouterContext&) override {
    ClassifierOutput output;
    output.expert_log_probs = torch::log_softmax(expert_->forward_all(images).values, 2);
    output.log_probs = output.expert_log_probs.squeeze(0);
    return output;
  }
  torch::Tensor loss(const ClassifierOutput& output, const torch::Tensor& labels) override {
    return torch::nll_loss(output.log_probs, labels);
  }
  void reset_parameters(uint64_t, uint64_t experts_seed) override {
    expert_->reset_parameters(tensor::make_generator(experts_seed));
  }
  std::shared_ptr<nn::ExpertsImpl> experts() const override { return expert_; }

 private:
  std::shared_ptr<nn::ExpertsImpl> expert_;
};

/// The classical mixture of whole classifiers.
class MixtureClassifierImpl : public nn::Cloneable<MixtureClassifierImpl, ClassifierImpl> {
 public:
  explicit MixtureClassifierImpl(nn::Mixture mixture) : mixture_(std::move(mixture)) {
    register_module("mixture", mixture_);
  }
  void reset() override {
    mixture_ = nn::Mixture(std::dynamic_pointer_cast<nn::MixtureImpl>(mixture_->clone()));
    register_module("mixture", mixture_);
  }
  ClassifierOutput forward(const torch::Tensor& images, const nn::RouterContext& context) override {
    last_ = mixture_->forward(images, context);
    ClassifierOutput output;
    output.log_probs = last_.log_probs;
    output.expert_log_probs = last_.expert_log_probs;
    output.layers.push_back({"mixture", last_.routing, images, 0});
    return output;
  }
  torch::Tensor loss(const ClassifierOutput&, const torch::Tensor& labels) override {
    return mixture_->loss(last_, labels);
  }
  void reset_parameters(uint64_t router_seed, uint64_t experts_seed) override {
    mixture_->router->reset_parameters(tensor::make_generator(router_seed));
    mixture_->experts->reset_parameters(tensor::make_generator(experts_seed));
  }
  std::shared_ptr<nn::RouterImpl> router() const override { return mixture_->router; }
  std::shared_ptr<nn::ExpertsImpl> experts() const override { return mixture_->experts; }

 private:
  nn::Mixture mixture_{nullptr};
  nn::MixtureOutput last_;
};

/// A sparse layer whose experts are whole classifiers: the output is the weighted sum of the chosen
/// experts' logits.
class SparseMixtureClassifierImpl
    : public nn::Cloneable<SparseMixtureClassifierImpl, ClassifierImpl> {
 public:
  SparseMixtureClassifierImpl(nn::MoE moe, OutputLoss loss) : moe_(std::move(moe)), loss_(loss) {
    register_module("moe", moe_);
  }
  void reset() override {
    moe_ = nn::MoE(std::dynamic_pointer_cast<nn::MoEImpl>(moe_->clone()));
    register_module("moe", moe_);
  }
  ClassifierOutput forward(const torch::Tensor& images, const nn::RouterContext& context) override {
    const auto moe = moe_->forward_with_routing(images, context);
    ClassifierOutput output;
    output.log_probs = torch::log_softmax(
        loss_ == OutputLoss::kDoubleSoftmax ? torch::softmax(moe.values, 1) : moe.values, 1);
    output.layers.push_back({"moe", moe.routing, images, moe.plan.num_dropped()});
    return output;
  }
  torch::Tensor loss(const ClassifierOutput& output, const torch::Tensor& labels) override {
    return torch::nll_loss(output.log_probs, labels);
  }
  void reset_parameters(uint64_t router_seed, uint64_t experts_seed) override {
    moe_->router->reset_parameters(tensor::make_generator(router_seed));
    moe_->experts->reset_parameters(tensor::make_generator(experts_seed));
  }
  std::shared_ptr<nn::RouterImpl> router() const override { return moe_->router; }
  std::shared_ptr<nn::ExpertsImpl> experts() const override { return moe_->experts; }

 private:
  nn::MoE moe_{nullptr};
  OutputLoss loss_;
};

/// Pixels -> D, one sparse MoE layer with a residual connection, D -> classes.
class SparseClassifierImpl : public nn::Cloneable<SparseClassifierImpl, ClassifierImpl> {
 public:
  SparseClassifierImpl(const ModelConfig& config, const InputShape& input, nn::MoE moe)
      : hidden_size_(config.hidden_size), input_(input), moe_(std::move(moe)) {
    register_all();
  }
  void reset() override {
    moe_ = nn::MoE(std::dynamic_pointer_cast<nn::MoEImpl>(moe_->clone()));
    register_all();
  }
  ClassifierOutput forward(const torch::Tensor& images, const nn::RouterContext& context) override {
    const auto hidden = torch::relu(embed_(images.flatten(1)));
    const auto moe = moe_->forward_with_routing(hidden, context);
    ClassifierOutput output;
    output.log_probs = torch::log_softmax(classify_(hidden + moe.values), 1);
    output.layers.push_back({"moe", moe.routing, hidden, moe.plan.num_dropped()});
    return output;
  }
  torch::Tensor loss(const ClassifierOutput& output, const torch::Tensor& labels) override {
    return torch::nll_loss(output.log_probs, labels);
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
  std::shared_ptr<nn::RouterImpl> router() const override { return moe_->router; }
  std::shared_ptr<nn::ExpertsImpl> experts() const override { return moe_->experts; }

 private:
  void register_all() {
    const int64_t pixels = input_.channels * input_.height * input_.width;
    embed_ = register_module("embed", torch::nn::Linear(pixels, hidden_size_));
    register_module("moe", moe_);
    classify_ = register_module("classify", torch::nn::Linear(hidden_size_, input_.num_classes));
  }
  int64_t hidden_size_;
  InputShape input_;
  torch::nn::Linear embed_{nullptr};
  nn::MoE moe_{nullptr};
  torch::nn::Linear classify_{nullptr};
};

}  // namespace

std::shared_ptr<ClassifierImpl> make_classifier(const ModelConfig& config,
                                                const InputShape& input) {
  validate(config, input);
  switch (config.kind) {
    case ModelKind::kSingle:
      return std::make_shared<SingleClassifierImpl>(make_image_experts(config, input, 1));
    case ModelKind::kMixture:
      return std::make_shared<MixtureClassifierImpl>(nn::Mixture(
          make_image_router(config, input), make_image_experts(config, input, config.num_experts),
          nn::MixtureOptions().form(config.form)));
    case ModelKind::kSparseMixture:
      return std::make_shared<SparseMixtureClassifierImpl>(
          nn::MoE(make_image_router(config, input),
                  make_image_experts(config, input, config.num_experts),
                  nn::MoEOptions().capacity_factor(config.capacity_factor)),
          config.output_loss);
    case ModelKind::kSparse: {
      const int64_t shared = config.num_shared_experts;
      nn::MoE moe(make_vector_router(config, config.hidden_size),
                  make_vector_experts(config, config.hidden_size, config.num_experts),
                  nn::MoEOptions().capacity_factor(config.capacity_factor),
                  shared > 0 ? make_vector_experts(config, config.hidden_size, shared) : nullptr);
      return std::make_shared<SparseClassifierImpl>(config, input, std::move(moe));
    }
  }
  throw ArgumentError("model.kind: unknown");
}

}  // namespace moekit::models
