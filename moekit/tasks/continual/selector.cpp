#include "moekit/tasks/continual/selector.h"

#include <torch/optim/adam.h>
#include <torch/torch.h>

#include <algorithm>
#include <limits>

#include "moekit/core/random.h"
#include "moekit/nn/initialization.h"
#include "moekit/tensor/generator.h"

namespace moekit::continual {
namespace {

constexpr int64_t kValidationShare = 10;  // one example in so many gives the thresholds
constexpr int64_t kBatchesDrawn = 1000;   // of them, for what a batch's mean error is like

}  // namespace

void check_selector(const SelectorConfig& config, bool has_routers, const std::string& where) {
  check_values(config, where);
  const SelectorConfig usual;
  const auto refuse = [&](bool set, const char* key) {
    MOEKIT_CHECK(!set || config.on, where, ".", key, " has no effect without ", where, ".on");
  };
  refuse(config.hidden != usual.hidden, "hidden");
  refuse(config.steps != usual.steps, "steps");
  refuse(config.batch_size != usual.batch_size, "batch_size");
  refuse(config.lr != usual.lr, "lr");
  refuse(config.percentile != usual.percentile, "percentile");
  refuse(config.batches != usual.batches, "batches");
  MOEKIT_CHECK(!config.batches.empty(), where, ".batches: wants a number at least; got none");
  MOEKIT_CHECK(!config.on || has_routers, where,
               ".on: wants model.kind = \"adapters\" with a router for each task to choose from");
}

SelectorImpl::SelectorImpl(const SelectorConfig& config, int64_t num_tasks, int64_t features,
                           uint64_t seed)
    : config_(config), seed_(seed) {
  for (int64_t t = 0; t < num_tasks; ++t) {
    encoders_.push_back(
        register_module(concat("encoder", t), torch::nn::Linear(features, config.hidden)));
    decoders_.push_back(
        register_module(concat("decoder", t), torch::nn::Linear(config.hidden, features)));
    const auto draw =
        tensor::make_generator(derive_seed(seed, "selector-init", static_cast<uint64_t>(t)));
    for (auto* layer : {&encoders_.back(), &decoders_.back()}) {
      const int64_t fan_in = (*layer)->options.in_features();
      nn::init_uniform_fan_in((*layer)->weight, fan_in, draw);
      nn::init_uniform_fan_in((*layer)->bias, fan_in, draw);
    }
  }
  for (auto& parameter : this->parameters()) parameter.requires_grad_(false);
  thresholds_ = register_buffer(
      "thresholds", torch::zeros({num_tasks, static_cast<int64_t>(config.batches.size())}));
}

torch::Tensor SelectorImpl::errors(int64_t task, const torch::Tensor& inputs) {
  const auto at = static_cast<size_t>(task);
  const auto wanted = torch::sigmoid(inputs);
  const auto hidden = torch::relu(encoders_[at]->forward(wanted));
  return (torch::sigmoid(decoders_[at]->forward(hidden)) - wanted).square().mean(1);
}

void SelectorImpl::learn(int64_t task, const torch::Tensor& inputs) {
  const auto at = static_cast<size_t>(task);
  const int64_t apart = std::max<int64_t>(1, inputs.size(0) / kValidationShare);
  const int64_t count = std::max<int64_t>(1, inputs.size(0) - apart);
  const auto own = static_cast<uint64_t>(task);
  const auto order = torch::tensor(
      random_permutation(inputs.size(0), derive_seed(seed_, "selector-split", own)), torch::kLong);
  const auto training = order.slice(0, 0, count);
  const int64_t batch = std::min(config_.batch_size, count);
  auto parameters = encoders_[at]->parameters();
  for (const auto& parameter : decoders_[at]->parameters()) parameters.push_back(parameter);
  for (auto& parameter : parameters) parameter.requires_grad_(true);
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(config_.lr));
  {
    const torch::AutoGradMode with_graph(true);
    const int64_t per_pass = count / batch;
    torch::Tensor pass;
    for (int64_t step = 0; step < config_.steps; ++step) {
      if (step % per_pass == 0) {
        const auto draw = derive_seed(derive_seed(seed_, "selector-order", own), "pass",
                                      static_cast<uint64_t>(step / per_pass));
        pass = torch::tensor(random_permutation(count, draw), torch::kLong);
      }
      const int64_t begin = step % per_pass * batch;
      const auto index = training.index_select(0, pass.slice(0, begin, begin + batch));
      optimizer.zero_grad();
      errors(task, inputs.index_select(0, index)).mean().backward();
      optimizer.step();
    }
  }
  // Nothing else trains them.
  for (auto& parameter : parameters) parameter.requires_grad_(false);
  const torch::NoGradGuard no_grad;
  const auto rest = errors(task, inputs.index_select(0, order.slice(0, inputs.size(0) - apart)));
  auto draw = tensor::make_generator(derive_seed(seed_, "selector-batches", own));
  for (size_t b = 0; b < config_.batches.size(); ++b) {
    const auto members =
        torch::randint(rest.size(0), {kBatchesDrawn, config_.batches[b]}, draw, torch::kLong);
    const auto means = rest.index_select(0, members.flatten()).view_as(members).mean(1);
    thresholds_[task][static_cast<int64_t>(b)] = torch::quantile(means, config_.percentile / 100);
  }
}

torch::Tensor SelectorImpl::choose(const torch::Tensor& inputs, int64_t learnt, size_t size) {
  const torch::NoGradGuard no_grad;
  const int64_t count = inputs.size(0);
  const int64_t batch = config_.batches.at(size);
  auto chosen = torch::full({count}, -1, torch::kLong);
  auto least = torch::full({count}, std::numeric_limits<float>::infinity());
  const auto group = torch::arange(count, torch::kLong).floor_divide(batch);
  const int64_t groups = (count + batch - 1) / batch;
  const auto members = torch::zeros({groups}).index_add_(0, group, torch::ones({count}));
  for (int64_t t = 0; t < learnt; ++t) {
    auto error = errors(t, inputs);
    if (batch > 1) {
      error =
          torch::zeros({groups}).index_add_(0, group, error).div_(members).index_select(0, group);
    }
    const auto better = error < least;
    // Of a task that is nearest but not near: none, unless another is nearer still.
    chosen = torch::where(
        better,
        torch::where(error <= thresholds_[t][static_cast<int64_t>(size)], t, -1).to(torch::kLong),
        chosen);
    least = torch::where(better, error, least);
  }
  return chosen;
}

}  // namespace moekit::continual
