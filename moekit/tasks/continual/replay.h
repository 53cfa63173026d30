#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/tasks/continual/protection.h"

namespace moekit::continual {

/// A few examples of every earlier task are kept, and some of them learnt again in each step: the
/// plain baseline. Source: Chaudhry et al. 2019, On Tiny Episodic Memories in Continual Learning,
/// arXiv:1902.10486 (experience replay).
struct ReplayOptions {
  int64_t keep = 0;
  int64_t batch = 64;
  double weight = 1;

  template <typename Field>
  void visit(Field&& field) {
    field("replay", keep, "examples kept of each earlier task; 0: none", at_least(0));
    field("replay_batch", batch, "of them learnt again in each step", at_least(1));
    field("replay_weight", weight, "times their loss", above(0));
  }
};

void check_replay(const ReplayOptions& options, const ProtectionSite& site,
                  const std::string& where);
/// Draws which examples are kept by the run's seed, and those of a step by its number.
std::shared_ptr<Protection> make_replay(const ReplayOptions& options, const ProtectionSite& site);

}  // namespace moekit::continual
