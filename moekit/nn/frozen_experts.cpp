#include "moekit/nn/frozen_experts.h"

#include <algorithm>
#include <set>

#include "moekit/core/error.h"
#include "moekit/nn/single_experts.h"

namespace moekit::nn {
namespace {

void check_experts(const char* who, const RoutedLayer& layer, const std::vector<int64_t>& chosen) {
  const int64_t all = layer.experts->num_experts();
  for (const int64_t expert : chosen) {
    MOEKIT_CHECK(expert >= 0 && expert < all, who, ": expert ", expert, " of layer \"", layer.name,
                 "\"; it has ", all);
  }
}

void set_learning(const ExpertsImpl& experts, const std::vector<int64_t>& chosen, bool learns) {
  auto separate = experts.separate_parameters();
  if (separate.empty()) return;
  for (const int64_t expert : chosen) {
    for (auto& parameter : separate[static_cast<size_t>(expert)]) {
      parameter.set_requires_grad(learns);
      if (!learns) parameter.mutable_grad().reset();
    }
  }
}

}  // namespace

std::string why_not_frozen(const ExpertsImpl& experts) {
  if (!experts.buffers().empty()) {
    return "its experts have running statistics, which training moves; freeze the whole bank";
  }
  if (!experts.shared_parameters().empty()) {
    return "its experts share parameters, which learn on; freeze the whole bank";
  }
  return why_not_single(experts);
}

void freeze_experts(const RoutedLayer& layer, const std::vector<int64_t>& experts) {
  check_experts("freeze_experts", layer, experts);
  const auto why_not = experts.empty() ? std::string() : why_not_frozen(*layer.experts);
  MOEKIT_CHECK(why_not.empty(), "freeze_experts: layer \"", layer.name, "\": ", why_not);
  const auto& before = layer.experts->frozen_experts();
  std::set<int64_t> frozen(before.begin(), before.end());
  frozen.insert(experts.begin(), experts.end());
  layer.experts->set_frozen_experts({frozen.begin(), frozen.end()});
  set_learning(*layer.experts, experts, false);
  clear_frozen_gradients(*layer.experts);
}

void unfreeze_experts(const RoutedLayer& layer, const std::vector<int64_t>& experts) {
  check_experts("unfreeze_experts", layer, experts);
  std::vector<int64_t> frozen;
  for (const int64_t expert : layer.experts->frozen_experts()) {
    if (std::find(experts.begin(), experts.end(), expert) == experts.end()) {
      frozen.push_back(expert);
    }
  }
  layer.experts->set_frozen_experts(std::move(frozen));
  set_learning(*layer.experts, experts, true);
}

std::vector<torch::Tensor> stacked_parameters(const ExpertsImpl& experts) {
  std::vector<torch::Tensor> stacked;
  if (!experts.separate_parameters().empty()) return stacked;
  const auto shared = experts.shared_parameters();
  for (const auto& parameter : experts.parameters()) {
    if (parameter.dim() >= 1 && parameter.size(0) == experts.num_experts() &&
        !is_one_of(parameter, shared)) {
      stacked.push_back(parameter);
    }
  }
  return stacked;
}

void clear_frozen_gradients(const ExpertsImpl& experts) {
  const auto& frozen = experts.frozen_experts();
  if (frozen.empty()) return;
  const torch::NoGradGuard no_grad;
  const auto index = torch::tensor(frozen, torch::kLong);
  for (const auto& parameter : stacked_parameters(experts)) {
    if (parameter.grad().defined()) parameter.grad().index_fill_(0, index, 0);
  }
}

}  // namespace moekit::nn
