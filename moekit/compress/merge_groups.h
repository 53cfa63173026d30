#pragma once

#include <vector>

#include "moekit/compress/calibration.h"
#include "moekit/compress/options.h"

namespace moekit::compress {

/// The experts that become one, and how.
struct GroupPlan {
  std::vector<int64_t> experts;  ///< the representative first, the others in ascending order
  std::vector<double> weights;   ///< shares in the mean, in the order of `experts`
};

/// The most used expert of each group is its representative, of equally used ones the lowest. Where
/// no expert of a group was used, usage gives equal shares.
/// @param groups  as group_experts() gives them
std::vector<GroupPlan> plan_groups(const std::vector<std::vector<int64_t>>& groups,
                                   const LayerStatistics& statistics, MergeWeights weights);

/// Makes each group one expert, in the order of the groups: the weighted mean of its members, with
/// the router's rows as `router` says. A group of one stays as it is, bit for bit. The layer keeps
/// the representatives' numbers (`RoutedModule::kept_experts`). No gradient flows.
/// @throws ArgumentError for a router that cannot do without an expert or has no rows of them
///         where their mean is asked for, experts that differ in kind or cannot be aligned, fewer
///         groups than a token has experts; nothing has changed then
void merge_groups(const nn::RoutedLayer& layer, const std::vector<GroupPlan>& groups, bool align,
                  RouterRepair router);

}  // namespace moekit::compress
