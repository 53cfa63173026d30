#include "moekit/train/callbacks/stop_on_loss.h"

#include <algorithm>

#include "moekit/core/schema.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

struct LowestLoss {
  double lowest_loss = 0;  ///< mean training loss of the best epoch so far

  template <typename Field>
  void visit(Field&& field) {
    field("lowest_loss", lowest_loss, "");
  }
};

class StopOnLoss : public Callback {
 public:
  explicit StopOnLoss(StopOnLossOptions options) : options_(options) {}
  std::string_view name() const override { return "stop_on_loss"; }
  void on_epoch(Trainer& trainer) override {
    const double loss = trainer.state.mean_loss();
    state_.lowest_loss = trainer.state.epoch == 1 ? loss : std::min(state_.lowest_loss, loss);
    if (trainer.state.epoch < options_.stop_from_epoch) return;
    if ((options_.stop_below > 0 && loss <= options_.stop_below) ||
        (options_.stop_rise > 0 && loss > state_.lowest_loss + options_.stop_rise)) {
      trainer.stop_early();
    }
  }
  Json state() const override { return to_json(state_); }
  void load_state(const Json& state, const std::string& where) override {
    bind_state(state, concat(where, ": callbacks.", name()), state_);
  }

 private:
  StopOnLossOptions options_;
  LowestLoss state_;
};

}  // namespace

std::unique_ptr<Callback> make_stop_on_loss(const StopOnLossOptions& options,
                                            const CallbackSite& /*site*/) {
  if (options.stop_below == 0 && options.stop_rise == 0) return nullptr;
  return std::make_unique<StopOnLoss>(options);
}

}  // namespace moekit::train
