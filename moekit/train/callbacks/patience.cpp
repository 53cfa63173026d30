#include "moekit/train/callbacks/patience.h"

#include "moekit/core/schema.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

struct BestTest {
  int64_t tests = 0;
  double best_validation = 0;
  int64_t tests_without_gain = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("tests", tests, "");
    field("best_validation", best_validation, "");
    field("tests_without_gain", tests_without_gain, "");
  }
};

class Patience : public Callback {
 public:
  explicit Patience(int64_t patience) : patience_(patience) {}
  std::string_view name() const override { return "patience"; }
  void on_metrics(Trainer& trainer, Json& line) override {
    const double loss = line.at("validation_loss").get<double>();
    if (state_.tests++ == 0 || loss < state_.best_validation) {
      state_.best_validation = loss;
      state_.tests_without_gain = 0;
    } else {
      ++state_.tests_without_gain;
    }
    if (state_.tests_without_gain >= patience_) trainer.stop_early();
  }
  Json state() const override { return to_json(state_); }
  void load_state(const Json& state, const std::string& where) override {
    bind_state(state, concat(where, ": callbacks.", name()), state_);
  }

 private:
  int64_t patience_;
  BestTest state_;
};

}  // namespace

void check_patience(const PatienceOptions& options, const CallbackSite& site,
                    const std::string& where) {
  MOEKIT_CHECK(options.patience == 0 || site.has_validation, where,
               ".patience = ", options.patience, " wants data.validation > 0; got 0");
}

std::unique_ptr<Callback> make_patience(const PatienceOptions& options,
                                        const CallbackSite& /*site*/) {
  if (options.patience == 0) return nullptr;
  return std::make_unique<Patience>(options.patience);
}

}  // namespace moekit::train
