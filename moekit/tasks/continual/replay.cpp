#include "moekit/tasks/continual/replay.h"

#include <torch/torch.h>

#include <random>

#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"

namespace moekit::continual {
namespace {

class Replay : public Protection {
 public:
  Replay(const ReplayOptions& options, const ProtectionSite& site)
      : options_(options), site_(site) {
    for (size_t t = 0; t < site.train_sizes.size(); ++t) {
      auto order =
          random_permutation(site.train_sizes[t], derive_seed(site.seed, "replay-memory", t));
      order.resize(static_cast<size_t>(options.keep));
      kept_.push_back(std::move(order));
    }
  }
  torch::Tensor loss(StreamModel& model, const StepExamples& step) override {
    if (step.task == 0) return {};
    std::vector<std::vector<int64_t>> drawn(static_cast<size_t>(step.task));
    std::mt19937_64 generator(derive_seed(site_.seed, "replay", static_cast<uint64_t>(step.step)));
    for (int64_t i = 0; i < options_.batch; ++i) {
      const auto task = uniform_below(generator, static_cast<uint64_t>(step.task));
      const auto which = uniform_below(generator, static_cast<uint64_t>(options_.keep));
      drawn[task].push_back(kept_[task][which]);
    }
    nn::RouterContext context;
    context.generator = tensor::make_generator(
        derive_seed(site_.seed, "replay-noise", static_cast<uint64_t>(step.step)));
    torch::Tensor sum;
    for (size_t t = 0; t < drawn.size(); ++t) {
      if (drawn[t].empty()) continue;
      const auto task = static_cast<int64_t>(t);
      const auto examples = site_.examples(task, torch::tensor(drawn[t], torch::kLong));
      const auto output = model.forward(examples.inputs, task, context);
      const auto loss = torch::nn::functional::cross_entropy(
          output.logits, examples.labels,
          torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum));
      sum = sum.defined() ? sum + loss : loss;
    }
    return sum * (options_.weight / static_cast<double>(options_.batch));
  }

 private:
  ReplayOptions options_;
  ProtectionSite site_;
  std::vector<std::vector<int64_t>> kept_;  ///< [T] rows of the training sets
};

}  // namespace

void check_replay(const ReplayOptions& options, const ProtectionSite& site,
                  const std::string& where) {
  const ReplayOptions usual;
  MOEKIT_CHECK(options.keep > 0 || options.batch == usual.batch, where,
               ".replay_batch has no effect without ", where, ".replay");
  MOEKIT_CHECK(options.keep > 0 || options.weight == usual.weight, where,
               ".replay_weight has no effect without ", where, ".replay");
  MOEKIT_CHECK(options.keep == 0 || site.num_classes.size() > 1, where,
               ".replay has no effect on a stream of one task");
  for (size_t t = 0; t < site.train_sizes.size(); ++t) {
    MOEKIT_CHECK(options.keep <= site.train_sizes[t], where, ".replay: task ", t, " has ",
                 site.train_sizes[t], " training examples; got ", options.keep);
  }
}

std::shared_ptr<Protection> make_replay(const ReplayOptions& options, const ProtectionSite& site) {
  if (options.keep == 0) return nullptr;
  return std::make_shared<Replay>(options, site);
}

}  // namespace moekit::continual
