#pragma once

#include <memory>
#include <string>

#include "moekit/core/field_rule.h"
#include "moekit/train/callback.h"

namespace moekit::train {

/// How much the experts of every routed layer are used while the model learns. Keys of the section
/// `train`.
struct UsageTrackingOptions {
  bool usage = false;
  double decay = 0.99;

  template <typename Field>
  void visit(Field&& field) {
    field("usage", usage, "tell in lines of metrics and in the summary how much experts were used");
    field("usage_decay", decay, "of its exponential counts, a step", at_least(0, 1));
  }
};

/// @throws ArgumentError naming `where` for a model without routed layers, a decay that is not
///         above 0 and below 1, or one without effect
void check_usage_tracking(const UsageTrackingOptions& options, const CallbackSite& site,
                          const std::string& where);
/// Null where it is not asked for. Writes "usage" into lines of metrics and the summary: for each
/// layer the counts of a merge::UsageCounter, as training saw them, noise included. Part of
/// checkpoints.
std::unique_ptr<Callback> make_usage_tracking(const UsageTrackingOptions& options,
                                              const CallbackSite& site);

}  // namespace moekit::train
