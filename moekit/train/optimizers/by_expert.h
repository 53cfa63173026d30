#pragma once

#include <torch/optim/optimizer.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "moekit/nn/experts.h"
#include "moekit/train/optimizer_kinds.h"

namespace moekit::train {

/// Which experts of which banks an optimizer leaves as they are in a step: those that are frozen
/// (nn/frozen_experts.h) and, when asked for, those that are idle.
class ExpertRows {
 public:
  ExpertRows() = default;  ///< knows no bank
  /// @param skip_idle  also leave out an expert whose gradient is exactly zero in all its
  ///        parameters, as that of one without tokens is: without it momentum, Adam's moments and
  ///        weight decay go on moving it
  ExpertRows(std::vector<std::shared_ptr<nn::ExpertsImpl>> banks, bool skip_idle)
      : banks_(std::move(banks)), skip_idle_(skip_idle) {}

  /// One step of the optimizer: `step` for whatever learns whole, checkpoint::step_rows() for
  /// banks of which experts are left out now or were before. Gradients are as before afterwards.
  void step(torch::optim::Optimizer& optimizer, const std::function<void()>& step) const;

 private:
  struct Aside;
  std::vector<Aside> take_aside(torch::optim::Optimizer& optimizer) const;

  std::vector<std::shared_ptr<nn::ExpertsImpl>> banks_;
  bool skip_idle_ = false;
};

/// The banks of all routed layers of the site's model.
ExpertRows make_expert_rows(const OptimizerSite& site, bool skip_idle);
/// Refuses `skip_idle_experts` for a model that routes nothing. @param where  path of the section
void check_skip_idle(bool skip_idle, const OptimizerSite& site, const std::string& where);

/// One of libtorch's optimizers that knows of experts.
template <typename Base>
class ByExpert : public Base {
 public:
  template <typename Options>
  ByExpert(std::vector<torch::optim::OptimizerParamGroup> groups, const Options& defaults,
           ExpertRows rows)
      : Base(std::move(groups), defaults), rows_(std::move(rows)) {}

  torch::Tensor step(torch::optim::Optimizer::LossClosure closure = nullptr) override {
    torch::Tensor loss;
    if (closure) {
      const torch::AutoGradMode with_graph(true);
      loss = closure();
    }
    rows_.step(*this, [this] { Base::step(); });
    return loss;
  }

 private:
  ExpertRows rows_;
};

}  // namespace moekit::train
