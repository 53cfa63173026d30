#pragma once

#include <optional>
#include <string>
#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/merge/merge_experts.h"

namespace moekit::merge {

/// What is written over the least used expert of a layer.
enum class Replacement {
  kNone,          ///< nothing: the plain layer, which the others are compared with
  kMerge,         ///< the mean of the two most used experts
  kCopyTop1,      ///< the most used expert
  kReinitVictim,  ///< an expert as it was drawn at first, of other random numbers
};

/// When a layer's counts allow it.
struct Thresholds {
  /// Least count of the second most used expert: before, the choice is chance.
  double min_count = 0;
  /// Least share by which the victim's count is below that of the second most used one, 0..1.
  double min_gap = 0;
};

/// Who is written over whom.
struct Roles {
  int64_t first = 0;   ///< most used
  int64_t second = 0;  ///< second most used
  int64_t victim = 0;  ///< least used of the others that learn
};

/// Experts from the most to the least used one, of equal counts the lower index first.
std::vector<int64_t> order_by_use(const std::vector<double>& counts);

/// The two most used experts and the least used one, of equal counts the lower index first. None
/// where there are fewer than three experts, all counts are zero, all others are frozen, or the
/// thresholds are not met.
/// @param counts  [E] @param frozen  experts that are never a victim; they may be parents
/// Source: Park 2024, arXiv:2405.11530 (the rule); ties, thresholds and frozen experts are ours.
std::optional<Roles> choose_roles(const std::vector<double>& counts,
                                  const std::vector<int64_t>& frozen,
                                  const Thresholds& thresholds = {});

/// Writes over the victim what `replacement` says; the other experts stay as they are.
/// @param weights    of the two parents, for kMerge
/// @param options    align and blend for kMerge; the router's rows: kMean takes those of the
///                   parents (the one parent of a copy; for kReinitVictim there is none)
/// @param generator  draws the new expert of kReinitVictim
/// @throws ArgumentError as `merge_into`
void replace_victim(const nn::RoutedLayer& layer, const Roles& roles, Replacement replacement,
                    const std::vector<double>& weights, const MergeOptions& options,
                    torch::optim::Optimizer* optimizer, const at::Generator& generator);

}  // namespace moekit::merge

template <>
struct moekit::EnumNames<moekit::merge::Replacement> {
  static constexpr std::array<std::pair<merge::Replacement, std::string_view>, 4> kTable{{
      {merge::Replacement::kNone, "none"},
      {merge::Replacement::kMerge, "merge"},
      {merge::Replacement::kCopyTop1, "copy_top1"},
      {merge::Replacement::kReinitVictim, "reinit_victim"},
  }};
};
