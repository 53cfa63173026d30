#include "moekit/merge/merge_experts.h"

#include <torch/torch.h>

#include <algorithm>
#include <optional>
#include <set>

#include "moekit/checkpoint/optimizer_rows.h"
#include "moekit/merge/align_units.h"
#include "moekit/merge/average.h"

namespace moekit::merge {
namespace {

void check_expert(const nn::RoutedLayer& layer, const char* what, int64_t expert) {
  MOEKIT_CHECK(expert >= 0 && expert < layer.experts->num_experts(), "merge: ", what, " ", expert,
               " of layer \"", layer.name, "\"; it has ", layer.experts->num_experts(), " experts");
}

void check_victim(const nn::RoutedLayer& layer, const std::vector<int64_t>& parents,
                  int64_t victim) {
  check_expert(layer, "victim", victim);
  MOEKIT_CHECK(std::find(parents.begin(), parents.end(), victim) == parents.end(), "merge: expert ",
               victim, " of layer \"", layer.name, "\" is parent and victim");
  const auto& frozen = layer.experts->frozen_experts();
  MOEKIT_CHECK(std::find(frozen.begin(), frozen.end(), victim) == frozen.end(), "merge: expert ",
               victim, " of layer \"", layer.name, "\" is frozen");
}

/// The parameters of an expert as an optimizer knows them.
void forget_expert(const nn::RoutedLayer& layer, int64_t expert,
                   checkpoint::OptimizerEdit& optimizer) {
  const auto separate = layer.experts->separate_parameters();
  if (!separate.empty()) {
    for (const auto& own : separate[static_cast<size_t>(expert)]) optimizer.forget(own);
    return;
  }
  const auto row = torch::tensor({expert}, torch::kLong);
  for (const auto& stacked : layer.experts->parameters()) optimizer.forget_rows(stacked, row);
}

/// The victim's new tensors: the merged expert, or a point between it and the victim.
nn::ExpertTensors blended(const nn::ExpertTensors& victim, const nn::ExpertTensors& merged,
                          double blend) {
  return blend == 1 ? merged : average({victim, merged}, {1 - blend, blend});
}

/// The victim's new rows of the router, in the order of `expert_rows`.
std::vector<torch::Tensor> router_rows(const std::vector<torch::Tensor>& all,
                                       const std::vector<int64_t>& parents,
                                       const std::vector<double>& weights, RouterRows how) {
  std::vector<torch::Tensor> rows;
  for (const auto& tensor : all) {
    if (how == RouterRows::kZero) {
      rows.push_back(torch::zeros_like(tensor.detach()[0]));
      continue;
    }
    std::vector<nn::ExpertTensors> of_parents;
    for (const int64_t parent : parents) of_parents.push_back({{"row", tensor.detach()[parent]}});
    rows.push_back(average(of_parents, weights)[0].second);
  }
  return rows;
}

/// Gradients were those of the parameters before.
void drop_gradient(const torch::Tensor& parameter, int64_t row) {
  if (parameter.grad().defined()) parameter.grad()[row].zero_();
}

}  // namespace

nn::ExpertTensors merged_expert(const nn::RoutedLayer& layer, const std::vector<int64_t>& parents,
                                const std::vector<double>& weights, bool align) {
  MOEKIT_CHECK(!parents.empty() && parents.size() == weights.size(), "merge: ", parents.size(),
               " parents and ", weights.size(), " weights of layer \"", layer.name, "\"");
  for (const int64_t parent : parents) check_expert(layer, "parent", parent);
  MOEKIT_CHECK(std::set<int64_t>(parents.begin(), parents.end()).size() == parents.size(),
               "merge: a parent of layer \"", layer.name, "\" is named twice");
  const auto units = layer.experts->hidden_units();
  MOEKIT_CHECK(!align || units, "merge: the experts of layer \"", layer.name,
               "\" cannot tell their hidden units, so that they cannot be aligned");
  MOEKIT_CHECK(!align || layer.router == nullptr || !layer.router->needs_expert_features(),
               "merge: the router of layer \"", layer.name,
               "\" reads the experts' features, whose order alignment would change");
  std::vector<nn::ExpertTensors> experts;
  for (const int64_t parent : parents) {
    auto tensors = nn::expert_tensors(*layer.experts, parent);
    experts.push_back(align && !experts.empty() ? align_units(*units, experts.front(), tensors)
                                                : std::move(tensors));
  }
  return average(experts, weights);
}

void merge_into(const nn::RoutedLayer& layer, const std::vector<int64_t>& parents,
                const std::vector<double>& weights, int64_t victim, const MergeOptions& options,
                torch::optim::Optimizer* optimizer) {
  const torch::NoGradGuard no_grad;
  check_victim(layer, parents, victim);
  MOEKIT_CHECK(options.blend >= 0 && options.blend <= 1, "merge: blend must be 0..1; got ",
               options.blend);
  const bool moves_router = options.router_rows != RouterRows::kKeep;
  const auto rows = moves_router && layer.router != nullptr ? layer.router->expert_rows()
                                                            : std::vector<torch::Tensor>{};
  MOEKIT_CHECK(!moves_router || !rows.empty(), "merge: the router of layer \"", layer.name,
               "\" has no rows of its experts; router_rows must be \"keep\"");
  // All that can be refused is worked out before anything is written.
  auto own = nn::expert_tensors(*layer.experts, victim);
  const auto merged =
      blended(own, merged_expert(layer, parents, weights, options.align), options.blend);
  const auto new_rows = router_rows(rows, parents, weights, options.router_rows);
  if (optimizer != nullptr) {
    checkpoint::OptimizerEdit edit(*optimizer);
    forget_expert(layer, victim, edit);
    const auto row = torch::tensor({victim}, torch::kLong);
    for (const auto& tensor : rows) edit.forget_rows(tensor, row);
    edit.commit();
  }
  for (size_t t = 0; t < own.size(); ++t) own[t].second.copy_(merged[t].second);
  for (size_t r = 0; r < rows.size(); ++r) {
    rows[r].detach()[victim].copy_(new_rows[r]);
    drop_gradient(rows[r], victim);
  }
  const auto separate = layer.experts->separate_parameters();
  if (separate.empty()) {
    for (const auto& stacked : layer.experts->parameters()) drop_gradient(stacked, victim);
  } else {
    for (auto parameter : separate[static_cast<size_t>(victim)]) parameter.mutable_grad().reset();
  }
}

}  // namespace moekit::merge
