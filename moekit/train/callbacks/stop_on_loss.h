#pragma once

#include <memory>
#include <string>

#include "moekit/core/kinds.h"
#include "moekit/train/callback.h"

namespace moekit::train {

/// When a loss is looked at.
enum class StopRule {
  kEpoch,  ///< after every epoch, its mean
  /// Before every update, the loss of the step with those on routing: one that is a new minimum
  /// never stops the run, however low, and the update of a step that stops it is not made.
  kReleased,
};

/// When the training loss ends a run.
/// Source: the released code of Chen et al. 2022, arXiv:2208.02813, which is `kReleased`.
struct StopOnLossOptions {
  double stop_below = 0;
  double stop_rise = 0;
  int64_t stop_from_epoch = 0;
  StopRule stop_rule = StopRule::kEpoch;

  template <typename Field>
  void visit(Field&& field) {
    field("stop_below", stop_below, "stop when the training loss is at most this; 0: never",
          at_least(0));
    field("stop_rise", stop_rise, "stop when it is this much above its lowest; 0: never",
          at_least(0));
    field("stop_from_epoch", stop_from_epoch, "first epoch at which these two may stop a run",
          at_least(0));
    field(
        "stop_rule", stop_rule,
        "epoch: their mean loss; released: the loss before each update, a new minimum never stops");
  }
};
/// Refuses a rule or a first epoch without a limit. @throws ArgumentError naming `where`
void check_stop_on_loss(const StopOnLossOptions& options, const CallbackSite& site,
                        const std::string& where);
/// Null where nothing would stop the run.
std::unique_ptr<Callback> make_stop_on_loss(const StopOnLossOptions& options,
                                            const CallbackSite& site);

}  // namespace moekit::train

template <>
struct moekit::EnumNames<moekit::train::StopRule> {
  static constexpr std::array<std::pair<train::StopRule, std::string_view>, 2> kTable{{
      {train::StopRule::kEpoch, "epoch"},
      {train::StopRule::kReleased, "released"},
  }};
};
