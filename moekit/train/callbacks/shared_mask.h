#pragma once

#include <memory>
#include <string>

#include "moekit/core/field_rule.h"
#include "moekit/train/callback.h"

namespace moekit::train {

/// Steps that parameters which all experts share sit out. Keys of the section `train`.
struct SharedMaskOptions {
  double shared_mask = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("shared_mask", shared_mask,
          "how likely a step leaves a parameter that all experts share as it is", at_least(0, 1));
  }
};

/// @throws ArgumentError naming `where` for a model whose experts share nothing
void check_shared_mask(const SharedMaskOptions& options, const CallbackSite& site,
                       const std::string& where);
/// In every step each parameter that a layer's experts share, see ExpertsImpl::shared_parameters(),
/// is left as it is with that probability, drawn from the run's seed and the step: no gradient,
/// moment or weight decay moves it. (The gradient counts in `clip_norm`.) Tells in the summary how
/// far the shared ones move: "shared_updates": "masked", the share of draws, and "ratio", the mean
/// length of their steps over that of the parameters that experts have for themselves. Null for
/// models whose experts share nothing. Source: Gao et al. 2022 (MPOE), arXiv:2203.01104, section
/// 3.3; a mask a tensor and a step, and moments that rest too, are ours.
std::unique_ptr<Callback> make_shared_mask(const SharedMaskOptions& options,
                                           const CallbackSite& site);

}  // namespace moekit::train
