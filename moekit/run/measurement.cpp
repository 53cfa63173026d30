#include "moekit/run/measurement.h"

#include "moekit/core/error.h"

namespace moekit::run {

Measurement::Measurement(std::string name, std::function<Json()> measure)
    : measure_(std::move(measure)), module_(std::make_shared<torch::nn::Module>(std::move(name))) {}

train::StepResult Measurement::forward(const train::StepKey& /*key*/) {
  throw ArgumentError(module_->name() + ": measures and trains nothing");
}

}  // namespace moekit::run
