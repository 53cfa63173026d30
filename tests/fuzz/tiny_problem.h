#pragma once

#include <torch/nn/modules/linear.h>

#include "moekit/train/problem.h"

namespace moekit::fuzz {

/// The least that can be trained, for what a checkpoint holds beside it.
class TinyProblem : public train::Problem {
 public:
  torch::nn::Module& module() override { return *linear_; }
  int64_t total_steps() const override { return 4; }
  int64_t steps_per_epoch() const override { return 2; }
  int64_t samples(const train::StepKey& /*key*/) const override { return 1; }
  train::StepResult forward(const train::StepKey& /*key*/) override {
    return {linear_->forward(torch::ones({1, 2})).sum(), 1, {}, {}};
  }
  Json evaluate(const train::LoopState& state) override { return {{"epoch", state.epoch}}; }
  Json finish(const train::LoopState& /*state*/, const std::filesystem::path& /*folder*/) override {
    return Json::object();
  }
  Json describe() override { return Json::object(); }
  void restore(const Json& /*description*/, const std::string& /*where*/) override {}

 private:
  torch::nn::Linear linear_{2, 2};
};

}  // namespace moekit::fuzz
