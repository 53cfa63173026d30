#include "moekit/train/callbacks/stop_on_loss.h"

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/core/schema.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

struct LowestLoss {
  double lowest_loss = 0;  ///< of the best epoch, or step, so far

  template <typename Field>
  void visit(Field&& field) {
    field("lowest_loss", lowest_loss, "");
  }
};

class StopOnLoss : public Callback {
 public:
  explicit StopOnLoss(StopOnLossOptions options) : options_(options) {}
  std::string_view name() const override { return "stop_on_loss"; }
  void before_optimizer(Trainer& trainer, const StepReport& report) override {
    if (options_.stop_rule != StopRule::kReleased) return;
    if (trainer.state.step == 0 || report.loss <= state_.lowest_loss) {
      state_.lowest_loss = report.loss;
    } else if (trainer.state.epoch >= options_.stop_from_epoch && is_over(report.loss)) {
      trainer.skip_update();
      trainer.stop_early();
    }
  }
  void on_epoch(Trainer& trainer) override {
    if (options_.stop_rule != StopRule::kEpoch) return;
    const double loss = trainer.state.mean_loss();
    state_.lowest_loss = trainer.state.epoch == 1 ? loss : std::min(state_.lowest_loss, loss);
    if (trainer.state.epoch < options_.stop_from_epoch) return;
    if (is_over(loss)) trainer.stop_early();
  }
  Json state() const override { return to_json(state_); }
  void load_state(const Json& state, const std::string& where) override {
    bind_state(state, concat(where, ": callbacks.", name()), state_);
  }

 private:
  bool is_over(double loss) const {
    return (options_.stop_below > 0 && loss <= options_.stop_below) ||
           (options_.stop_rise > 0 && loss > state_.lowest_loss + options_.stop_rise);
  }

  StopOnLossOptions options_;
  LowestLoss state_;
};

}  // namespace

void check_stop_on_loss(const StopOnLossOptions& options, const CallbackSite& /*site*/,
                        const std::string& where) {
  if (options.stop_below > 0 || options.stop_rise > 0) return;
  MOEKIT_CHECK(options.stop_rule == StopRule::kEpoch, where,
               ".stop_rule has no effect without stop_below or stop_rise");
  MOEKIT_CHECK(options.stop_from_epoch == 0, where,
               ".stop_from_epoch has no effect without stop_below or stop_rise");
}

std::unique_ptr<Callback> make_stop_on_loss(const StopOnLossOptions& options,
                                            const CallbackSite& /*site*/) {
  if (options.stop_below == 0 && options.stop_rise == 0) return nullptr;
  return std::make_unique<StopOnLoss>(options);
}

}  // namespace moekit::train
