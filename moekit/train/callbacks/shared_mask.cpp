#include "moekit/train/callbacks/shared_mask.h"

#include <random>

#include "moekit/core/error.h"
#include "moekit/core/kinds.h"
#include "moekit/core/random.h"
#include "moekit/core/schema.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

struct SharedMaskState {
  int64_t draws = 0;
  int64_t masked = 0;
  double shared_length = 0;  ///< sum over steps and tensors
  double own_length = 0;
  int64_t own_steps = 0;  ///< steps times tensors

  template <typename Field>
  void visit(Field&& field) {
    field("draws", draws, "");
    field("masked", masked, "");
    field("shared_length", shared_length, "");
    field("own_length", own_length, "");
    field("own_steps", own_steps, "");
  }
};

class SharedMask : public Callback {
 public:
  SharedMask(double probability, const CallbackSite& site)
      : probability_(probability), seed_(site.seed) {
    for (const auto& layer : site.layers) {
      const auto shared = layer.experts->shared_parameters();
      if (shared.empty()) continue;
      shared_.insert(shared_.end(), shared.begin(), shared.end());
      for (const auto& parameter : layer.experts->parameters()) {
        if (!nn::is_one_of(parameter, shared)) own_.push_back(parameter);
      }
    }
  }
  std::string_view name() const override { return "shared_mask"; }
  void before_optimizer(Trainer& trainer, const StepReport& /*report*/) override {
    std::mt19937_64 generator(
        derive_seed(seed_, "shared-mask", static_cast<uint64_t>(trainer.state.step)));
    for (auto& parameter : shared_) {
      const bool masked = uniform_unit(generator) < probability_;
      ++state_.draws;
      state_.masked += masked ? 1 : 0;
      // Without a gradient the optimizer passes a parameter by; with zeros it would not.
      if (masked) parameter.mutable_grad().reset();
    }
    before_ = copies_of(shared_);
    own_before_ = copies_of(own_);
  }
  void after_optimizer(Trainer& /*trainer*/, const StepReport& /*report*/) override {
    state_.shared_length += moved(shared_, before_);
    state_.own_length += moved(own_, own_before_);
    state_.own_steps += static_cast<int64_t>(own_.size());
  }
  void on_finish(Trainer& /*trainer*/, Json& summary) override {
    if (state_.draws == 0 || state_.own_length == 0) return;
    const auto draws = static_cast<double>(state_.draws);
    const double shared = state_.shared_length / draws;
    const double own = state_.own_length / static_cast<double>(state_.own_steps);
    summary["shared_updates"] = {{"masked", static_cast<double>(state_.masked) / draws},
                                 {"ratio", shared / own}};
  }
  Json state() const override { return to_json(state_); }
  void load_state(const Json& state, const std::string& where) override {
    bind_state(state, concat(where, ": callbacks.", name()), state_);
  }

 private:
  static std::vector<torch::Tensor> copies_of(const std::vector<torch::Tensor>& tensors) {
    std::vector<torch::Tensor> copies;
    for (const auto& tensor : tensors) copies.push_back(tensor.detach().clone());
    return copies;
  }
  static double moved(const std::vector<torch::Tensor>& now,
                      const std::vector<torch::Tensor>& before) {
    double length = 0;
    for (size_t i = 0; i < now.size(); ++i) {
      length += (now[i].detach() - before[i]).norm().item<double>();
    }
    return length;
  }

  double probability_;
  uint64_t seed_;
  std::vector<torch::Tensor> shared_, own_, before_, own_before_;
  SharedMaskState state_;
};

bool shares_any(const CallbackSite& site) {
  for (const auto& layer : site.layers) {
    if (!layer.experts->shared_parameters().empty()) return true;
  }
  return false;
}

}  // namespace

void check_shared_mask(const SharedMaskOptions& options, const CallbackSite& site,
                       const std::string& where) {
  MOEKIT_CHECK(options.shared_mask == 0 || shares_any(site), where,
               ".shared_mask has no effect: the model's experts share no parameter; got ",
               options.shared_mask);
}

std::unique_ptr<Callback> make_shared_mask(const SharedMaskOptions& options,
                                           const CallbackSite& site) {
  if (!shares_any(site)) return nullptr;
  return std::make_unique<SharedMask>(options.shared_mask, site);
}

}  // namespace moekit::train
