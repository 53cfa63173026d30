#include "moekit/train/callbacks/silent_parameters.h"

#include <algorithm>

#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

bool is_silent(const torch::Tensor& parameter) {
  if (!parameter.requires_grad()) return false;
  const auto& gradient = parameter.grad();
  return !gradient.defined() || !gradient.ne(0).any().item<bool>();  // NaN is no silence
}

}  // namespace

void SilentParameters::before_optimizer(Trainer& trainer, const StepReport& /*report*/) {
  if (trainer.optimizer() == nullptr) return;
  const bool is_first = trainer.state.batch == 0;
  auto& silent = state_.silent;
  if (!is_first && silent.empty()) return;
  const auto parameters = trainer.problem().module().named_parameters();
  if (is_first) {
    silent.clear();
    for (const auto& item : parameters) {
      if (is_silent(item.value())) silent.push_back(item.key());
    }
    return;
  }
  const auto has_spoken = [&](const std::string& name) {
    const auto* parameter = parameters.find(name);
    return parameter == nullptr || !is_silent(*parameter);
  };
  silent.erase(std::remove_if(silent.begin(), silent.end(), has_spoken), silent.end());
}

void SilentParameters::on_epoch(Trainer& trainer) {
  std::vector<std::string> found;
  for (const auto& name : state_.silent) {
    const auto& known = state_.reported;
    if (std::find(known.begin(), known.end(), name) == known.end()) found.push_back(name);
  }
  state_.silent.clear();
  if (found.empty()) return;
  state_.reported.insert(state_.reported.end(), found.begin(), found.end());
  report_(found, trainer.state.epoch);
}

void SilentParameters::on_finish(Trainer& /*trainer*/, Json& summary) {
  if (!state_.reported.empty()) summary["parameters_without_gradient"] = state_.reported;
}

Json SilentParameters::state() const {
  return state_.silent.empty() && state_.reported.empty() ? Json::object() : to_json(state_);
}

void SilentParameters::load_state(const Json& state, const std::string& where) {
  bind_json(state, where, state_);
}

}  // namespace moekit::train
