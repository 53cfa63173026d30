#pragma once

#include <functional>
#include <string>
#include <vector>

#include "moekit/train/callback.h"

namespace moekit::train {

/// Finds parameters that should learn and do not: that need a gradient, and had none or one of
/// exact zeros in every step of an epoch. Of any model; nothing it does changes a number. Looks at
/// each parameter until it has a gradient, which most have in an epoch's first step. Where the
/// problem moves its weights without an optimizer, it finds nothing.
class SilentParameters : public Callback {
 public:
  /// @param epoch  the one in which they had none, from 1
  using Report = std::function<void(const std::vector<std::string>& names, int64_t epoch)>;

  /// @param report  is told of each parameter once in a run
  explicit SilentParameters(Report report) : report_(std::move(report)) {}
  std::string_view name() const override { return "silent_parameters"; }
  void before_optimizer(Trainer& trainer, const StepReport& report) override;
  void on_epoch(Trainer& trainer) override;
  /// "parameters_without_gradient", where there are any.
  void on_finish(Trainer& trainer, Json& summary) override;
  Json state() const override;
  void load_state(const Json& state, const std::string& where) override;

 private:
  struct State {
    std::vector<std::string> silent;    ///< without gradient in all steps of the running epoch
    std::vector<std::string> reported;  ///< in the run

    template <typename Field>
    void visit(Field&& field) {
      field("silent", silent, "");
      field("reported", reported, "");
    }
  };
  Report report_;
  State state_;
};

}  // namespace moekit::train
