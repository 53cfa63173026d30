#include "moekit/tasks/continual/own_networks.h"

#include <torch/nn/modules/linear.h>
#include <torch/torch.h>

#include "moekit/core/random.h"
#include "moekit/nn/initialization.h"
#include "moekit/nn/surgery.h"
#include "moekit/tensor/generator.h"

namespace moekit::continual {
namespace {

class OwnNetworks : public StreamModel {
 public:
  OwnNetworks(const OwnNetworksConfig& config, const StreamSite& site) {
    const int64_t depth = static_cast<int64_t>(config.hidden.size()) + 1;
    std::vector<torch::nn::Linear> shared;
    for (int64_t t = 0; t < site.num_tasks; ++t) {
      auto& layers = networks_.emplace_back();
      for (int64_t l = 0; l < depth; ++l) {
        const auto at = static_cast<size_t>(l);
        if (l < config.shared_layers && t > 0) {
          layers.push_back(shared[at]);
          continue;
        }
        const int64_t in = l == 0 ? site.side * site.side : config.hidden[at - 1];
        const int64_t out =
            l + 1 == depth ? site.num_classes[static_cast<size_t>(t)] : config.hidden[at];
        const bool is_shared = l < config.shared_layers;
        const std::string name = is_shared ? concat("shared", l) : concat("task", t, "_layer", l);
        layers.push_back(register_module(name, torch::nn::Linear(in, out)));
        const auto draw = tensor::make_generator(
            derive_seed(site.seed, concat("layer-init", l), static_cast<uint64_t>(t)));
        nn::init_uniform_fan_in(layers.back()->weight, in, draw);
        nn::init_uniform_fan_in(layers.back()->bias, in, draw);
        if (is_shared) shared.push_back(layers.back());
      }
    }
  }
  Output forward(const torch::Tensor& inputs, int64_t task,
                 const nn::RouterContext& /*context*/) override {
    return {logits_by(inputs, task, task), {}};
  }
  torch::Tensor logits_by(const torch::Tensor& inputs, int64_t /*task*/, int64_t by) override {
    auto& layers = networks_[static_cast<size_t>(std::max<int64_t>(by, 0))];
    auto x = inputs.flatten(1);
    for (size_t l = 0; l < layers.size(); ++l) {
      x = layers[l]->forward(x);
      if (l + 1 < layers.size()) x = torch::relu(x);
    }
    return x;
  }
  void enter_task(int64_t task) override {
    for (auto& layers : networks_) {
      for (auto& layer : layers) nn::freeze(*layer);
    }
    for (auto& layer : networks_[static_cast<size_t>(task)]) nn::unfreeze(*layer);
  }

 private:
  std::vector<std::vector<torch::nn::Linear>> networks_;  ///< [T][layers]
};

}  // namespace

void check_own_networks(const OwnNetworksConfig& config, const StreamSite& site,
                        const std::string& where) {
  const auto depth = static_cast<int64_t>(config.hidden.size()) + 1;
  MOEKIT_CHECK(config.shared_layers <= depth, where, ".shared_layers: there are ", depth, "; got ",
               config.shared_layers);
  if (site.stream == nullptr) return;
  for (size_t t = 1; t < site.num_classes.size(); ++t) {
    MOEKIT_CHECK(site.num_classes[t] == site.num_classes[0], where, ": ", site.task_names[0],
                 " has ", site.num_classes[0], " classes, ", site.task_names[t], " has ",
                 site.num_classes[t], ": a task to come is answered by another's network");
  }
}

std::shared_ptr<StreamModel> make_own_networks(const OwnNetworksConfig& config,
                                               const StreamSite& site) {
  return std::make_shared<OwnNetworks>(config, site);
}

}  // namespace moekit::continual
