#include "moekit/tasks/continual/distillation.h"

#include <torch/torch.h>

#include <algorithm>

namespace moekit::continual {
namespace {

class Distillation : public Protection {
 public:
  Distillation(const DistillationOptions& options, const ProtectionSite& site)
      : options_(options), site_(site) {
    const auto most = [](const std::vector<int64_t>& of) {
      return *std::max_element(of.begin(), of.end());
    };
    before_ =
        register_buffer("before", torch::zeros({most(site.train_sizes), most(site.num_classes)}));
  }
  void begin_task(StreamModel& model, int64_t task) override {
    if (task == 0) return;
    const torch::NoGradGuard no_grad;
    const bool was_training = model.is_training();
    model.eval();  // without a router's noise
    const int64_t size = site_.train_sizes[static_cast<size_t>(task)];
    for (int64_t begin = 0; begin < size; begin += kAtOnce) {
      const auto index = torch::arange(begin, std::min(begin + kAtOnce, size));
      const auto logits =
          model.logits_by(site_.examples(task, index).inputs, task, model.answers_for(task, task));
      before_.slice(0, begin, begin + index.size(0)).slice(1, 0, logits.size(1)).copy_(logits);
    }
    model.train(was_training);
  }
  torch::Tensor loss(StreamModel& /*model*/, const StepExamples& step) override {
    if (step.task == 0) return {};
    const double heat = options_.temperature;
    const auto& now = step.output.logits;
    const auto before = before_.index_select(0, step.index).slice(1, 0, now.size(1));
    const auto distance = torch::kl_div(torch::log_softmax(now / heat, 1),
                                        torch::log_softmax(before / heat, 1), at::Reduction::Sum,
                                        /*log_target=*/true);
    // Gradients of softened logits shrink by the square of the temperature.
    return distance * (options_.weight * heat * heat / static_cast<double>(now.size(0)));
  }

 private:
  DistillationOptions options_;
  ProtectionSite site_;
  torch::Tensor before_;  ///< logits of the task's training examples before its first step
};

}  // namespace

void check_distillation(const DistillationOptions& options, const ProtectionSite& site,
                        const std::string& where) {
  MOEKIT_CHECK(options.weight > 0 || options.temperature == DistillationOptions{}.temperature,
               where, ".lwf_temperature has no effect without ", where, ".lwf");
  MOEKIT_CHECK(options.weight == 0 || site.num_classes.size() > 1, where,
               ".lwf has no effect on a stream of one task");
}

std::shared_ptr<Protection> make_distillation(const DistillationOptions& options,
                                              const ProtectionSite& site) {
  if (options.weight == 0) return nullptr;
  return std::make_shared<Distillation>(options, site);
}

}  // namespace moekit::continual
