#include "moekit/tasks/continual/base_network.h"

#include <torch/optim/adam.h>
#include <torch/torch.h>

#include <algorithm>

#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"

namespace moekit::continual {
namespace {

const data::StreamTask& training_task(const BaseConfig& config, const StreamSite& site) {
  for (const auto& task : site.stream->tasks) {
    if (task.name == config.train_on) return task;
  }
  throw ArgumentError(concat("model.base.train_on: \"", config.train_on, "\" is no task"));
}

}  // namespace

torch::Tensor as_input(const torch::Tensor& images) { return images.to(torch::kFloat32) / 255; }

BaseNetworkImpl::BaseNetworkImpl(const BaseConfig& config, const StreamSite& site)
    : num_classes_(site.num_classes), scale_(config.scale) {
  const int64_t side = site.side;
  net_ = register_module("net",
                         nn::ConvNetStack(nn::conv_net_options(config.net, {1, side, side}, 1)));
  net_->reset_parameters(tensor::make_generator(derive_seed(site.seed, "base-init")));
  if (config.head == Head::kLinear) {
    const int64_t classes = site.num_classes.front();
    head_ = register_module("head", torch::nn::Linear(net_->feature_size(), classes));
    const auto draw = tensor::make_generator(derive_seed(site.seed, "head-init"));
    nn::init_uniform_fan_in(head_->weight, net_->feature_size(), draw);
    nn::init_uniform_fan_in(head_->bias, net_->feature_size(), draw);
  } else {
    const int64_t most = *std::max_element(num_classes_.begin(), num_classes_.end());
    prototypes_ =
        register_buffer("prototypes", torch::zeros({site.num_tasks, most, net_->feature_size()}));
  }
  if (!config.train_on.empty()) pretrain(config, site);
  if (!head_) take_prototypes(site);
}

torch::Tensor BaseNetworkImpl::features(const torch::Tensor& images) {
  return torch::relu(net_->forward(images).select(0, 0));
}

torch::Tensor BaseNetworkImpl::logits(const torch::Tensor& features, int64_t task) {
  if (head_) return head_->forward(features);
  const int64_t classes = num_classes_[static_cast<size_t>(task)];
  const auto unit = torch::nn::functional::normalize(features);
  return scale_ * unit.matmul(prototypes_[task].slice(0, 0, classes).t());
}

// On its own task by Adam; a map of its own where the stream has prototypes.
void BaseNetworkImpl::pretrain(const BaseConfig& config, const StreamSite& site) {
  const auto& task = training_task(config, site);
  torch::nn::Linear head = head_;
  if (!head) {
    head = torch::nn::Linear(net_->feature_size(), static_cast<int64_t>(task.class_names.size()));
    nn::init_uniform_fan_in(head->weight, net_->feature_size(),
                            tensor::make_generator(derive_seed(site.seed, "head-init")));
    const torch::NoGradGuard no_grad;
    head->bias.zero_();
  }
  auto parameters = net_->parameters();
  for (const auto& parameter : head->parameters()) parameters.push_back(parameter);
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(config.lr));
  for (int64_t epoch = 0; epoch < config.epochs; ++epoch) {
    const auto order = torch::tensor(
        random_permutation(task.train.size(),
                           derive_seed(site.seed, "base-order", static_cast<uint64_t>(epoch))),
        torch::kLong);
    for (int64_t begin = 0; begin < task.train.size(); begin += config.batch_size) {
      const auto batch = task.train.select(order.slice(0, begin, begin + config.batch_size));
      optimizer.zero_grad();
      torch::nn::functional::cross_entropy(head->forward(features(as_input(batch.images))),
                                           batch.labels)
          .backward();
      optimizer.step();
    }
  }
  optimizer.zero_grad();
}

void BaseNetworkImpl::take_prototypes(const StreamSite& site) {
  const torch::NoGradGuard no_grad;
  for (int64_t t = 0; t < site.num_tasks; ++t) {
    const auto& train = site.stream->tasks[static_cast<size_t>(t)].train;
    auto sums = torch::zeros_like(prototypes_[t]);
    for (int64_t begin = 0; begin < train.size(); begin += kAtOnce) {
      const auto part = train.slice(begin, std::min(begin + kAtOnce, train.size()));
      sums.index_add_(0, part.labels,
                      torch::nn::functional::normalize(features(as_input(part.images))));
    }
    prototypes_[t].copy_(torch::nn::functional::normalize(sums));
  }
}

void check_base(const BaseConfig& config, const StreamSite& site, const std::string& where) {
  const BaseConfig usual;
  check_values(config, where);
  nn::check_net(config.net, {1, site.side, site.side}, where + ".net");
  for (const auto& block : config.net.conv) {
    MOEKIT_CHECK(!block.batch_norm, where, ".net.conv: batch_norm: running statistics of one task ",
                 "would stand for all; leave it out");
  }
  const auto refuse = [&](bool set, const char* key, const char* why) {
    MOEKIT_CHECK(!set, where, ".", key, " has no effect ", why);
  };
  const bool trained = !config.train_on.empty();
  refuse(!trained && config.epochs != usual.epochs, "epochs", "without train_on");
  refuse(!trained && config.batch_size != usual.batch_size, "batch_size", "without train_on");
  refuse(!trained && config.lr != usual.lr, "lr", "without train_on");
  refuse(config.head == Head::kLinear && config.scale != usual.scale, "scale",
         "with head = \"linear\"");
  MOEKIT_CHECK(trained || config.head == Head::kPrototypes, where,
               ".head: a linear head of random weights knows no class; set train_on, or head = ",
               "\"prototypes\"");
  const auto found = std::find(site.task_names.begin(), site.task_names.end(), config.train_on);
  MOEKIT_CHECK(!trained || found != site.task_names.end(), where, ".train_on: \"", config.train_on,
               "\" is none of stream.tasks");
  if (site.stream == nullptr || config.head != Head::kLinear) return;
  const auto& known = training_task(config, site).class_names;
  for (const auto& task : site.stream->tasks) {
    MOEKIT_CHECK(task.class_names == known, where, ".head: a linear head of the classes of ",
                 config.train_on, " does not know those of ", task.name,
                 "; set head = \"prototypes\"");
  }
}

}  // namespace moekit::continual
