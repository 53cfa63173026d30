#pragma once

#include <memory>
#include <string>

#include "moekit/core/field_rule.h"
#include "moekit/merge/rule.h"
#include "moekit/merge/usage.h"
#include "moekit/train/callback.h"

namespace moekit::train {

/// The shares of the two parents in the merged expert.
enum class ParentWeights {
  kUniform,
  kUsage,  ///< by their counts
};

/// Merging of experts while a model learns, in every routed layer by itself: each period the two
/// most used experts are merged, and the result written over the least used one. Keys of the
/// section `train`.
/// Source: Park 2024, Learning More Generalized Experts by Merging Experts in Mixture-of-Experts,
/// arXiv:2405.11530. The paper's period and counts were not found; alignment, weights, blend, the
/// router's rows, thresholds and the two controls are ours.
struct MergingOptions {
  merge::Replacement replacement = merge::Replacement::kNone;
  int64_t period = 100;
  int64_t warm_up = 0;
  merge::UsageWindow window = merge::UsageWindow::kSinceMerge;
  merge::UsageCount count = merge::UsageCount::kHard;
  double decay = 0.99;
  merge::Thresholds thresholds;
  ParentWeights weights = ParentWeights::kUniform;
  merge::MergeOptions how;

  template <typename Field>
  void visit(Field&& field) {
    field("merge", replacement, "what is written over the least used expert of a layer");
    field("merge_period", period, "steps between two times", at_least(1));
    field("merge_warm_up", warm_up, "steps of a task, or of the run, before the first time",
          at_least(0));
    field("merge_window", window, "which steps count for who is used");
    field("merge_count", count, "an assignment counts one, or its weight");
    field("merge_decay", decay, "of the exponential window, a step", at_least(0, 1));
    field("merge_min_count", thresholds.min_count, "least count of the second most used expert",
          at_least(0));
    field("merge_min_gap", thresholds.min_gap,
          "least share by which the least used one's count is below that", at_least(0, 1));
    field("merge_weights", weights, "of the two parents");
    field("merge_align", how.join.align, "exchange hidden units so that the parents lie alike");
    field("merge_products", how.join.products,
          "of experts that are products of two matrices, merge the products");
    field("merge_blend", how.blend, "share of the merged expert in what is written",
          at_least(0, 1));
    field("merge_router", how.router_rows, "the router's rows of what is written over");
  }
};

/// Refuses layers in which nobody can be written over, experts that cannot be merged so, and keys
/// without effect. @throws ArgumentError naming `where`
void check_merging(const MergingOptions& options, const CallbackSite& site,
                   const std::string& where);
/// Null where nothing is written. Counts, and who was written over whom and when, are part of
/// checkpoints; the list stands in the summary, "merges", with the share of assignments that what
/// was written got until the next time. Periods are counted from the beginning of a stage
/// (`Stage`); nothing is written in the last one of it, in which the router could not react.
std::unique_ptr<Callback> make_merging(const MergingOptions& options, const CallbackSite& site);

}  // namespace moekit::train

template <>
struct moekit::EnumNames<moekit::train::ParentWeights> {
  static constexpr std::array<std::pair<train::ParentWeights, std::string_view>, 2> kTable{{
      {train::ParentWeights::kUniform, "uniform"},
      {train::ParentWeights::kUsage, "usage"},
  }};
};
