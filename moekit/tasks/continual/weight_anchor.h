#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/tasks/continual/protection.h"

namespace moekit::continual {

/// Weights are held near where earlier tasks left them, each as much as it mattered there: half of
/// weight * sum F (theta - theta*)^2, F the diagonal of the Fisher information, summed over the
/// tasks. Source: Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks,
/// arXiv:1612.00796, eq. 3, with one centre, the newest, for all tasks (Huszar 2018,
/// arXiv:1712.03847).
struct WeightAnchorOptions {
  double weight = 0;
  int64_t samples = 200;

  template <typename Field>
  void visit(Field&& field) {
    field("ewc", weight, "times how far weights that mattered have moved; 0: not", at_least(0));
    field("ewc_samples", samples, "examples of a task that tell what mattered", at_least(1));
  }
};

void check_weight_anchor(const WeightAnchorOptions& options, const ProtectionSite& site,
                         const std::string& where);
/// Keeps F and theta* of every parameter. Classes are drawn from the model's own answers by the
/// run's seed, one backward pass an example.
std::shared_ptr<Protection> make_weight_anchor(const WeightAnchorOptions& options,
                                               const ProtectionSite& site);

}  // namespace moekit::continual
