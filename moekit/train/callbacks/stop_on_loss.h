#pragma once

#include <memory>

#include "moekit/core/kinds.h"
#include "moekit/train/callback.h"

namespace moekit::train {

/// When the training loss ends a run, looked at after every epoch.
/// Source: the released code of Chen et al. 2022, arXiv:2208.02813.
struct StopOnLossOptions {
  double stop_below = 0;
  double stop_rise = 0;
  int64_t stop_from_epoch = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("stop_below", stop_below, "stop when the training loss is at most this; 0: never",
          at_least(0));
    field("stop_rise", stop_rise, "stop when it is this much above its lowest; 0: never",
          at_least(0));
    field("stop_from_epoch", stop_from_epoch, "first epoch at which these two may stop a run",
          at_least(0));
  }
};
/// Null where nothing would stop the run.
std::unique_ptr<Callback> make_stop_on_loss(const StopOnLossOptions& options,
                                            const CallbackSite& site);

}  // namespace moekit::train
