#include "moekit/models/sparse_mixture_classifier.h"

#include "moekit/core/error.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/precision.h"
#include "moekit/tensor/generator.h"

namespace moekit::models {
namespace {

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
    const auto values = nn::at_least_float(moe.values);
    output.log_probs = torch::log_softmax(
        loss_ == OutputLoss::kDoubleSoftmax ? torch::softmax(values, 1) : values, 1);
    output.layers.push_back({"moe", moe.routing, moe.tokens, moe.plan.num_dropped()});
    return output;
  }
  void reset_parameters(uint64_t router_seed, uint64_t experts_seed) override {
    moe_->router->reset_parameters(tensor::make_generator(router_seed));
    moe_->experts->reset_parameters(tensor::make_generator(experts_seed));
  }
  bool is_hard() const override { return moe_->router->traits().top_k == 1; }

 private:
  nn::MoE moe_{nullptr};
  OutputLoss loss_;
};

}  // namespace

void check_sparse_mixture_classifier(const SparseMixtureConfig& config, const InputShape& input,
                                     const std::string& where) {
  const auto site = image_site(input, config.num_experts);
  check_parts(config.router, config.expert, site, where);
  const auto parts = make_parts(config.router, config.expert, site);
  const auto traits = parts.router->traits();
  MOEKIT_CHECK(traits.top_k >= 1 || !traits.learns, where, ".router.top_k: a sparse mixture wants ",
               "1..", config.num_experts, "; got 0");
  check_sparse_parts(*parts.router, *parts.experts, config.capacity, where);
}

std::shared_ptr<ClassifierImpl> make_sparse_mixture_classifier(const SparseMixtureConfig& config,
                                                               const InputShape& input) {
  auto parts = make_parts(config.router, config.expert, image_site(input, config.num_experts));
  return std::make_shared<SparseMixtureClassifierImpl>(
      nn::MoE(std::move(parts.router), std::move(parts.experts),
              nn::MoEOptions().capacity(config.capacity)),
      config.output_loss);
}

}  // namespace moekit::models
