#include "moekit/merge/rule.h"

#include <algorithm>
#include <numeric>

#include "moekit/core/error.h"

namespace moekit::merge {
namespace {

/// An expert of the layer's kind as it is drawn at first.
nn::ExpertTensors fresh_expert(const nn::RoutedLayer& layer, int64_t expert,
                               const at::Generator& generator) {
  // Banks draw all their experts at once: a copy draws, and this one is taken from it.
  const auto copy = std::dynamic_pointer_cast<nn::ExpertsImpl>(layer.experts->clone());
  MOEKIT_CHECK(copy != nullptr, "merge: the experts of layer \"", layer.name,
               "\" cannot be copied");
  copy->reset_parameters(generator);
  return nn::expert_tensors(*copy, expert);
}

}  // namespace

std::vector<int64_t> order_by_use(const std::vector<double>& counts) {
  std::vector<int64_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return counts[static_cast<size_t>(a)] > counts[static_cast<size_t>(b)];
  });
  return order;
}

std::optional<Roles> choose_roles(const std::vector<double>& counts,
                                  const std::vector<int64_t>& frozen,
                                  const Thresholds& thresholds) {
  const auto count = [&](int64_t e) { return counts[static_cast<size_t>(e)]; };
  const auto order = order_by_use(counts);
  if (order.size() < 3 || count(order[0]) <= 0) return std::nullopt;
  Roles roles{order[0], order[1], -1};
  for (size_t i = 2; i < order.size(); ++i) {
    const int64_t e = order[i];
    if (std::find(frozen.begin(), frozen.end(), e) != frozen.end()) continue;
    if (roles.victim < 0 || count(e) < count(roles.victim)) roles.victim = e;
  }
  if (roles.victim < 0 || count(roles.second) < thresholds.min_count) return std::nullopt;
  // Of a second parent that was never used there is no share.
  const double gap = count(roles.second) > 0 ? 1 - count(roles.victim) / count(roles.second) : 0;
  if (gap < thresholds.min_gap) return std::nullopt;
  return roles;
}

void replace_victim(const nn::RoutedLayer& layer, const Roles& roles, Replacement replacement,
                    const std::vector<double>& weights, const MergeOptions& options,
                    torch::optim::Optimizer* optimizer, const at::Generator& generator) {
  switch (replacement) {
    case Replacement::kNone:
      return;
    case Replacement::kMerge:
      return merge_into(layer, {roles.first, roles.second}, weights, roles.victim, options,
                        optimizer);
    case Replacement::kCopyTop1:
      return merge_into(layer, {roles.first}, {1}, roles.victim, options, optimizer);
    case Replacement::kReinitVictim:
      MOEKIT_CHECK(options.router_rows == RouterRows::kKeep && options.blend == 1,
                   "merge: a new expert has no parents: blend must be 1 and router_rows \"keep\"");
      return write_expert(layer, roles.victim, fresh_expert(layer, roles.victim, generator), {},
                          optimizer);
  }
}

}  // namespace moekit::merge
