#include "moekit/merge/merge_experts.h"

#include <torch/torch.h>

#include <algorithm>
#include <set>

#include "moekit/checkpoint/optimizer_rows.h"
#include "moekit/merge/align_units.h"
#include "moekit/merge/average.h"
#include "moekit/merge/product.h"
#include "moekit/nn/frozen_experts.h"

namespace moekit::merge {
namespace {

void check_expert(const nn::RoutedLayer& layer, const char* what, int64_t expert) {
  MOEKIT_CHECK(expert >= 0 && expert < layer.experts->num_experts(), "merge: ", what, " ", expert,
               " of layer \"", layer.name, "\"; it has ", layer.experts->num_experts(), " experts");
}

void check_writable(const nn::RoutedLayer& layer, int64_t expert) {
  check_expert(layer, "victim", expert);
  const auto& frozen = layer.experts->frozen_experts();
  MOEKIT_CHECK(std::find(frozen.begin(), frozen.end(), expert) == frozen.end(), "merge: expert ",
               expert, " of layer \"", layer.name, "\" is frozen");
}

void check_fits(const nn::RoutedLayer& layer, const nn::ExpertTensors& own,
                const nn::ExpertTensors& tensors) {
  bool fits = own.size() == tensors.size();
  for (size_t t = 0; fits && t < own.size(); ++t) {
    fits = own[t].first == tensors[t].first && own[t].second.sizes() == tensors[t].second.sizes();
  }
  MOEKIT_CHECK(fits, "merge: the tensors are not those of an expert of layer \"", layer.name, "\"");
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
  for (const auto& stacked : nn::stacked_parameters(*layer.experts)) {
    optimizer.forget_rows(stacked, row);
  }
}

/// The victim's new tensors: the merged expert, or a point between it and the victim.
nn::ExpertTensors blended(const nn::ExpertTensors& victim, const nn::ExpertTensors& merged,
                          double blend) {
  return blend == 1 ? merged : average({victim, merged}, {1 - blend, blend});
}

/// Gradients were those of the parameters before.
void drop_gradient(const torch::Tensor& parameter, int64_t row) {
  if (parameter.grad().defined()) parameter.grad()[row].zero_();
}

}  // namespace

std::string why_not_joined(const nn::RoutedLayer& layer, const JoinOptions& join) {
  if (join.align && join.products) {
    return "products do not depend on where hidden units lie: they cannot be aligned too";
  }
  if (join.align && !layer.experts->hidden_units()) {
    return concat("the experts of layer \"", layer.name, "\" cannot tell their hidden units");
  }
  if (join.align && layer.experts->hidden_units()->empty()) {
    return concat("the experts of layer \"", layer.name, "\" have no hidden units to align");
  }
  if (join.products && !layer.experts->matrix_pair()) {
    return concat(
        "the experts of layer \"", layer.name,
        "\" are no products of two matrices (mlp experts of activation \"identity\" are)");
  }
  if ((join.align || join.products) && layer.router != nullptr &&
      layer.router->needs_expert_features()) {
    return concat("the router of layer \"", layer.name,
                  "\" reads the experts' features, which that would change");
  }
  return {};
}

nn::ExpertTensors merged_expert(const nn::RoutedLayer& layer, const std::vector<int64_t>& parents,
                                const std::vector<double>& weights, const JoinOptions& join) {
  MOEKIT_CHECK(!parents.empty() && parents.size() == weights.size(), "merge: ", parents.size(),
               " parents and ", weights.size(), " weights of layer \"", layer.name, "\"");
  for (const int64_t parent : parents) check_expert(layer, "parent", parent);
  MOEKIT_CHECK(std::set<int64_t>(parents.begin(), parents.end()).size() == parents.size(),
               "merge: a parent of layer \"", layer.name, "\" is named twice");
  const std::string why_not = why_not_joined(layer, join);
  MOEKIT_CHECK(why_not.empty(), "merge: ", why_not);
  std::vector<nn::ExpertTensors> experts;
  for (const int64_t parent : parents) {
    auto tensors = nn::expert_tensors(*layer.experts, parent);
    experts.push_back(join.align && !experts.empty()
                          ? align_units(*layer.experts->hidden_units(), experts.front(), tensors)
                          : std::move(tensors));
  }
  return join.products ? mean_product(*layer.experts->matrix_pair(), experts, weights)
                       : average(experts, weights);
}

std::vector<torch::Tensor> router_rows(const nn::RoutedLayer& layer,
                                       const std::vector<int64_t>& parents,
                                       const std::vector<double>& weights, RouterRows how) {
  std::vector<torch::Tensor> rows;
  if (how == RouterRows::kKeep) return rows;
  const auto all =
      layer.router == nullptr ? std::vector<torch::Tensor>{} : layer.router->expert_rows();
  MOEKIT_CHECK(!all.empty(), "merge: the router of layer \"", layer.name,
               "\" has no rows of its experts; router_rows must be \"keep\"");
  for (const auto& tensor : all) {
    std::vector<nn::ExpertTensors> of_parents;
    for (const int64_t parent : parents) of_parents.push_back({{"row", tensor.detach()[parent]}});
    const auto mean = average(of_parents, weights)[0].second;
    rows.push_back(how == RouterRows::kZero ? torch::zeros_like(mean) : mean);
  }
  return rows;
}

void write_expert(const nn::RoutedLayer& layer, int64_t expert, const nn::ExpertTensors& tensors,
                  const std::vector<torch::Tensor>& new_rows, torch::optim::Optimizer* optimizer) {
  const torch::NoGradGuard no_grad;
  check_writable(layer, expert);
  auto own = nn::expert_tensors(*layer.experts, expert);
  check_fits(layer, own, tensors);
  const auto rows = new_rows.empty() ? new_rows : layer.router->expert_rows();
  if (optimizer != nullptr) {
    checkpoint::OptimizerEdit edit(*optimizer);
    forget_expert(layer, expert, edit);
    const auto row = torch::tensor({expert}, torch::kLong);
    for (const auto& tensor : rows) edit.forget_rows(tensor, row);
    edit.commit();
  }
  for (size_t t = 0; t < own.size(); ++t) own[t].second.copy_(tensors[t].second);
  for (size_t r = 0; r < rows.size(); ++r) {
    rows[r].detach()[expert].copy_(new_rows[r]);
    drop_gradient(rows[r], expert);
  }
  const auto separate = layer.experts->separate_parameters();
  if (separate.empty()) {
    for (const auto& stacked : nn::stacked_parameters(*layer.experts)) {
      drop_gradient(stacked, expert);
    }
  } else {
    for (const auto& parameter : separate[static_cast<size_t>(expert)])
      parameter.mutable_grad().reset();
  }
}

void merge_into(const nn::RoutedLayer& layer, const std::vector<int64_t>& parents,
                const std::vector<double>& weights, int64_t victim, const MergeOptions& options,
                torch::optim::Optimizer* optimizer) {
  const torch::NoGradGuard no_grad;
  check_writable(layer, victim);
  MOEKIT_CHECK(std::find(parents.begin(), parents.end(), victim) == parents.end(), "merge: expert ",
               victim, " of layer \"", layer.name, "\" is parent and victim");
  MOEKIT_CHECK(options.blend >= 0 && options.blend <= 1, "merge: blend must be 0..1; got ",
               options.blend);
  const auto merged = merged_expert(layer, parents, weights, options.join);
  write_expert(layer, victim,
               blended(nn::expert_tensors(*layer.experts, victim), merged, options.blend),
               router_rows(layer, parents, weights, options.router_rows), optimizer);
}

}  // namespace moekit::merge
