#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/tasks/continual/protection.h"

namespace moekit::continual {

/// The model shall answer on a task's examples as it did before the task. Source: Li & Hoiem 2016,
/// Learning without Forgetting, arXiv:1606.09282, eq. 2-4, with the softened cross-entropy as a
/// Kullback-Leibler divergence (the same gradient).
struct DistillationOptions {
  double weight = 0;
  double temperature = 2;

  template <typename Field>
  void visit(Field&& field) {
    field("lwf", weight, "times the distance to the answers before the task; 0: not", at_least(0));
    field("lwf_temperature", temperature, "both are softened by", above(0));
  }
};

void check_distillation(const DistillationOptions& options, const ProtectionSite& site,
                        const std::string& where);
/// Keeps the answers to a task's training examples, [N, classes], from before its first step.
std::shared_ptr<Protection> make_distillation(const DistillationOptions& options,
                                              const ProtectionSite& site);

}  // namespace moekit::continual
