#include "moekit/tasks/continual/weight_anchor.h"

#include <torch/torch.h>

#include <algorithm>

#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"

namespace moekit::continual {
namespace {

class WeightAnchor : public Protection {
 public:
  WeightAnchor(const WeightAnchorOptions& options, const ProtectionSite& site)
      : options_(options), site_(site) {
    for (const auto& parameter : site.model->parameters()) {
      const auto name = std::to_string(fisher_.size());
      fisher_.push_back(register_buffer("fisher" + name, torch::zeros_like(parameter)));
      centre_.push_back(register_buffer("centre" + name, torch::zeros_like(parameter)));
    }
  }
  torch::Tensor loss(StreamModel& model, const StepExamples& step) override {
    if (step.task == 0) return {};
    const auto parameters = model.parameters();
    torch::Tensor sum;
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (!parameters[i].requires_grad()) continue;
      const auto term = (fisher_[i] * (parameters[i] - centre_[i]).square()).sum();
      sum = sum.defined() ? sum + term : term;
    }
    return sum.defined() ? sum * (options_.weight / 2) : sum;
  }
  void end_task(StreamModel& model, int64_t task) override {
    const auto parameters = model.parameters();
    const bool was_training = model.is_training();
    model.eval();
    const int64_t size = site_.train_sizes[static_cast<size_t>(task)];
    const int64_t count = std::min(options_.samples, size);
    const auto of_task = static_cast<uint64_t>(task);
    const auto order = random_permutation(size, derive_seed(site_.seed, "ewc", of_task));
    auto draw = tensor::make_generator(derive_seed(site_.seed, "ewc-classes", of_task));
    for (int64_t i = 0; i < count; ++i) {
      const auto one =
          site_.examples(task, torch::tensor({order[static_cast<size_t>(i)]}, torch::kLong));
      const auto logits = model.forward(one.inputs, task, {}).logits;
      const auto label = torch::softmax(logits.detach(), 1).multinomial(1, false, draw).squeeze(1);
      std::vector<torch::Tensor> learning;
      std::vector<size_t> which;
      for (size_t p = 0; p < parameters.size(); ++p) {
        if (!parameters[p].requires_grad()) continue;
        learning.push_back(parameters[p]);
        which.push_back(p);
      }
      const auto gradients =
          torch::autograd::grad({torch::nn::functional::cross_entropy(logits, label)}, learning, {},
                                /*retain_graph=*/false, /*create_graph=*/false,
                                /*allow_unused=*/true);
      for (size_t g = 0; g < gradients.size(); ++g) {
        if (!gradients[g].defined()) continue;
        fisher_[which[g]].add_(gradients[g].square(), 1.0 / static_cast<double>(count));
      }
    }
    const torch::NoGradGuard no_grad;
    for (size_t p = 0; p < parameters.size(); ++p) centre_[p].copy_(parameters[p]);
    model.train(was_training);
  }

 private:
  WeightAnchorOptions options_;
  ProtectionSite site_;
  std::vector<torch::Tensor> fisher_, centre_;  ///< one a parameter of the model
};

}  // namespace

void check_weight_anchor(const WeightAnchorOptions& options, const ProtectionSite& site,
                         const std::string& where) {
  MOEKIT_CHECK(options.weight > 0 || options.samples == WeightAnchorOptions{}.samples, where,
               ".ewc_samples has no effect without ", where, ".ewc");
  MOEKIT_CHECK(options.weight == 0 || site.model == nullptr || !site.model->grows(), where,
               ".ewc holds weights where they are, and model.grow adds some with every task");
  MOEKIT_CHECK(options.weight == 0 || site.num_classes.size() > 1, where,
               ".ewc has no effect on a stream of one task");
}

std::shared_ptr<Protection> make_weight_anchor(const WeightAnchorOptions& options,
                                               const ProtectionSite& site) {
  if (options.weight == 0) return nullptr;
  return std::make_shared<WeightAnchor>(options, site);
}

}  // namespace moekit::continual
