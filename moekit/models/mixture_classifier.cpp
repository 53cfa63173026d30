#include "moekit/models/mixture_classifier.h"

#include "moekit/core/error.h"
#include "moekit/nn/cloneable.h"
#include "moekit/tensor/generator.h"

namespace moekit::models {
namespace {

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
    const auto joined = mixture_->forward(images, context);
    ClassifierOutput output;
    output.log_probs = joined.log_probs;
    output.expert_log_probs = joined.expert_log_probs;
    output.log_gate = joined.log_gate;
    output.layers.push_back({"mixture", joined.routing, joined.inputs, 0});
    return output;
  }
  torch::Tensor loss(const ClassifierOutput& output, const torch::Tensor& labels) const override {
    nn::MixtureOutput joined;
    joined.log_probs = output.log_probs;
    joined.expert_log_probs = output.expert_log_probs;
    joined.log_gate = output.log_gate;
    joined.routing.rows = output.rows();
    return mixture_->loss(joined, labels);
  }
  void reset_parameters(uint64_t router_seed, uint64_t experts_seed) override {
    mixture_->router->reset_parameters(tensor::make_generator(router_seed));
    mixture_->experts->reset_parameters(tensor::make_generator(experts_seed));
  }
  bool is_hard() const override {
    return mixture_->options.form() == nn::MixtureForm::kStochastic ||
           mixture_->router->traits().top_k == 1;
  }

 private:
  nn::Mixture mixture_{nullptr};
};

}  // namespace

void check_mixture_classifier(const MixtureConfig& config, const InputShape& input,
                              const std::string& where) {
  const auto site = image_site(input, config.num_experts);
  check_parts(config.router, config.expert, site, where);
  const auto traits = make_parts(config.router, config.expert, site).router->traits();
  nn::check_trainable(
      traits, nn::why_no_gradient(0, config.num_experts, nn::CombineWeights::kProbs),
      concat(where, ".num_experts = ", config.num_experts, ", ", where, ".router: "));
  const auto weights = traits.combine_weights;
  MOEKIT_CHECK(weights == nn::RouterTraits{}.combine_weights, where,
               ".router.combine_weights has no effect with kind = \"mixture\": its form says how "
               "experts are joined; got \"",
               enum_name(weights), "\"");
  const int64_t top_k = traits.top_k;
  if (config.form == nn::MixtureForm::kTopK) {
    MOEKIT_CHECK(top_k >= 1 && top_k < config.num_experts, where, ".form = \"top_k\" wants ", where,
                 ".router.top_k in 1..", config.num_experts - 1, "; got ", top_k);
  } else {
    MOEKIT_CHECK(top_k == 0, where, ".router.top_k = ", top_k, " wants ", where,
                 ".form = \"top_k\"; got \"", enum_name(config.form), "\", which uses all experts");
  }
}

std::shared_ptr<ClassifierImpl> make_mixture_classifier(const MixtureConfig& config,
                                                        const InputShape& input) {
  auto parts = make_parts(config.router, config.expert, image_site(input, config.num_experts));
  return std::make_shared<MixtureClassifierImpl>(nn::Mixture(
      std::move(parts.router), std::move(parts.experts), nn::MixtureOptions().form(config.form)));
}

}  // namespace moekit::models
