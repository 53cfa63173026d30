#pragma once

#include <torch/optim/optimizer.h>

#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/nn/routed_layer.h"

namespace moekit::merge {

/// What becomes of the router's rows of an expert that is written over.
enum class RouterRows {
  kKeep,  ///< learning decides what the merged expert is for
  kMean,  ///< the parents', averaged as they are
  kZero,
};

/// What is averaged.
struct JoinOptions {
  /// Exchange the hidden units of every parent such that they lie as those of the first one do.
  bool align = false;
  /// Average the products of experts that are two matrices, and take the nearest of their rank (see
  /// mean_product()), in place of the matrices.
  bool products = false;
};

struct MergeOptions {
  JoinOptions join;
  /// Share of the merged expert in what is written; the victim keeps the rest of itself. 0..1
  double blend = 1;
  RouterRows router_rows = RouterRows::kKeep;
};

/// The weighted mean of experts of a layer. @return tensors of its own, by name
/// @param weights  one a parent, not negative
/// @throws ArgumentError for no parent, one out of range or named twice, weights without a positive
///         sum, experts of different shape, alignment of experts that cannot tell their hidden
///         units, products of experts that are none, or both
nn::ExpertTensors merged_expert(const nn::RoutedLayer& layer, const std::vector<int64_t>& parents,
                                const std::vector<double>& weights, const JoinOptions& join = {});
/// Why the experts of a layer cannot be joined so; empty where they can.
std::string why_not_joined(const nn::RoutedLayer& layer, const JoinOptions& join);

/// What becomes of the router's rows of an expert that is written over, in the order of
/// `RouterImpl::expert_rows`; none where they stay.
/// @param parents, weights  of which kMean takes the mean
/// @throws ArgumentError for a router without rows of its experts, where those shall change
std::vector<torch::Tensor> router_rows(const nn::RoutedLayer& layer,
                                       const std::vector<int64_t>& parents,
                                       const std::vector<double>& weights, RouterRows how);

/// Writes tensors over an expert, in place; the other experts and their optimizer state keep every
/// bit. What the optimizer remembers of the expert is forgotten, its gradients are dropped. A graph
/// made before refuses to run backward through what changed.
/// @param tensors  as `expert_tensors` gives them, of memory of their own
/// @param new_rows  its rows of the router, in the order of `RouterImpl::expert_rows`; none:
///        they stay, and so does what the optimizer remembers of them
/// @throws ArgumentError for an expert that is frozen or out of range, tensors that do not fit, an
///         optimizer whose state is not known; nothing has changed then
void write_expert(const nn::RoutedLayer& layer, int64_t expert, const nn::ExpertTensors& tensors,
                  const std::vector<torch::Tensor>& new_rows = {},
                  torch::optim::Optimizer* optimizer = nullptr);

/// Writes the weighted mean of the `parents` over the expert `victim`, as `write_expert` does. No
/// gradient flows. Source: Park 2024, Learning More Generalized Experts by Merging Experts in
/// Mixture-of-Experts, arXiv:2405.11530 (mean of two experts over a third); alignment, weights,
/// blend and the router's rows are options of ours.
/// @throws ArgumentError as `merged_expert`; for a victim that is a parent, frozen or out of range,
///         a blend outside 0..1, a router without rows of its experts where those shall change, an
///         optimizer whose state is not known; nothing has changed then
void merge_into(const nn::RoutedLayer& layer, const std::vector<int64_t>& parents,
                const std::vector<double>& weights, int64_t victim,
                const MergeOptions& options = {}, torch::optim::Optimizer* optimizer = nullptr);

}  // namespace moekit::merge

template <>
struct moekit::EnumNames<moekit::merge::RouterRows> {
  static constexpr std::array<std::pair<merge::RouterRows, std::string_view>, 3> kTable = {{
      {merge::RouterRows::kKeep, "keep"},
      {merge::RouterRows::kMean, "mean"},
      {merge::RouterRows::kZero, "zero"},
  }};
};
