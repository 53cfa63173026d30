#include "moekit/train/callbacks/usage_tracking.h"

#include "moekit/core/error.h"
#include "moekit/merge/usage.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

class UsageTracking : public Callback {
 public:
  explicit UsageTracking(double decay) : usage_(decay) {}
  std::string_view name() const override { return "usage"; }
  void after_optimizer(Trainer& trainer, const StepReport& report) override {
    if (trainer.state.step == trainer.problem().stage(trainer.state.step).first) {
      usage_.start_task();
    }
    usage_.add(report.layers);
  }
  void on_metrics(Trainer& /*trainer*/, Json& line) override { line["usage"] = usage_.state(); }
  void on_finish(Trainer& /*trainer*/, Json& summary) override {
    summary["usage"] = usage_.state();
  }
  Json state() const override { return usage_.state(); }
  void load_state(const Json& state, const std::string& where) override {
    usage_.load_state(state, concat(where, ": callbacks.", name()));
  }

 private:
  merge::UsageCounter usage_;
};

}  // namespace

void check_usage_tracking(const UsageTrackingOptions& options, const CallbackSite& site,
                          const std::string& where) {
  MOEKIT_CHECK(options.usage || options.decay == UsageTrackingOptions{}.decay, where,
               ".usage_decay has no effect without ", where, ".usage");
  if (!options.usage) return;
  MOEKIT_CHECK(options.decay > 0 && options.decay < 1, where,
               ".usage_decay must be above 0 and below 1; got ", options.decay);
  MOEKIT_CHECK(!site.layers.empty(), where, ".usage: the model has no routed layer");
}

std::unique_ptr<Callback> make_usage_tracking(const UsageTrackingOptions& options,
                                              const CallbackSite& /*site*/) {
  if (!options.usage) return nullptr;
  return std::make_unique<UsageTracking>(options.decay);
}

}  // namespace moekit::train
