#include "moekit/models/single_classifier.h"

#include "moekit/nn/cloneable.h"
#include "moekit/nn/parts.h"
#include "moekit/nn/precision.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::models {
namespace {

class SingleClassifierImpl : public nn::Cloneable<SingleClassifierImpl, ClassifierImpl>,
                             public nn::RoutedModule {
 public:
  explicit SingleClassifierImpl(std::shared_ptr<nn::ExpertsImpl> expert)
      : expert_(std::move(expert)) {
    start_with(1);
    nn::register_part(*this, "experts", expert_);
  }
  void reset() override { nn::register_copy(*this, "experts", expert_); }
  nn::RoutedLayer routed_parts() const override { return {"", nullptr, expert_, nullptr}; }
  ClassifierOutput forward(const torch::Tensor& images, const nn::RouterContext&) override {
    ClassifierOutput output;
    const auto from_expert = tensor::counted(
        "experts", [&] { return expert_->forward_all(nn::as_parameters(images, *expert_)); });
    output.expert_log_probs = torch::log_softmax(nn::at_least_float(from_expert.values), 2);
    output.log_probs = output.expert_log_probs.squeeze(0);
    return output;
  }
  void reset_parameters(uint64_t, uint64_t experts_seed) override {
    expert_->reset_parameters(tensor::make_generator(experts_seed));
  }

 private:
  std::shared_ptr<nn::ExpertsImpl> expert_;
};

}  // namespace

void check_single_classifier(const SingleConfig& config, const InputShape& input,
                             const std::string& where) {
  config.expert->check(image_site(input, 1), where + ".expert");
}

std::shared_ptr<ClassifierImpl> make_single_classifier(const SingleConfig& config,
                                                       const InputShape& input) {
  return std::make_shared<SingleClassifierImpl>(config.expert->make(image_site(input, 1)));
}

}  // namespace moekit::models
