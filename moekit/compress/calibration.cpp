#include "moekit/compress/calibration.h"

#include <torch/torch.h>

#include <algorithm>
#include <functional>

#include "moekit/merge/usage.h"

namespace moekit::compress {
namespace {

void add_to(std::vector<double>& sums, const std::vector<double>& more) {
  std::transform(sums.begin(), sums.end(), more.begin(), sums.begin(), std::plus<>());
}

}  // namespace

void Calibrator::add(const std::vector<nn::LayerRouting>& layers,
                     const nn::RouterContext& context) {
  const torch::NoGradGuard no_grad;
  if (layers_.empty()) {
    layers_.resize(layers.size());
    logits_.resize(layers.size());
  }
  MOEKIT_CHECK(layers.size() == layers_.size(), "calibration: a pass gave ", layers.size(),
               " routed layers, those before ", layers_.size());
  for (size_t l = 0; l < layers.size(); ++l) {
    auto& own = layers_[l];
    const nn::Routing& routing = layers[l].routing;
    const auto experts = static_cast<size_t>(routing.num_experts());
    if (own.passes.empty()) {
      own.name = layers[l].name;
      own.hard.assign(experts, 0);
      own.soft.assign(experts, 0);
    }
    MOEKIT_CHECK(own.name == layers[l].name && own.hard.size() == experts, "calibration: layer \"",
                 layers[l].name, "\" of ", experts, " experts where there was \"", own.name,
                 "\" of ", own.hard.size());
    const auto chosen = routing.takes_all || routing.top_k() == routing.num_experts()
                            ? nn::top1_expert(routing)
                            : routing.expert;
    add_to(own.hard,
           merge::by_expert(chosen, torch::ones({chosen.size(0)}), routing.num_experts()));
    add_to(own.soft, merge::by_expert(routing.expert, routing.weight, routing.num_experts()));
    const auto& logits = routing.clean_logits.defined() ? routing.clean_logits : routing.logits;
    logits_[l].push_back(logits.detach().to(torch::kFloat64));
    own.passes.push_back({layers[l].samples.detach(),
                          routing.rows.defined() ? context.select(routing.rows) : context});
  }
}

std::vector<LayerStatistics> Calibrator::finish() {
  for (size_t l = 0; l < layers_.size(); ++l) layers_[l].logits = torch::cat(logits_[l]);
  logits_.clear();
  return std::move(layers_);
}

}  // namespace moekit::compress
