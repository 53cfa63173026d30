#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <memory>
#include <string>
#include <vector>

#include "moekit/core/kinds.h"

namespace moekit::train {

/// Parameters whose name `match` fits learn with settings of their own.
struct ParameterGroup {
  std::string match;
  double lr_scale = 1;
  double weight_decay = 0;
  bool normalize = false;

  template <typename Field>
  void visit(Field&& field) {
    field("match", match, "start of the parameters' names; * stands for anything");
    field("lr_scale", lr_scale, "times the learning rate", at_least(0));
    field("weight_decay", weight_decay, "", at_least(0));
    field("normalize", normalize, "stacked experts, one norm each; for normalized_gd");
  }
};

/// Of the key `skip_idle_experts`, which all optimizers have.
inline constexpr const char* kSkipIdleDoc =
    "leave experts without tokens as they are; otherwise momentum and weight decay move them";

/// What an optimizer is made for.
struct OptimizerSite {
  torch::nn::Module* module = nullptr;
  double lr = 1e-3;
  std::vector<ParameterGroup> groups;
};

/// The table of optimizers. Their keys stand in a recipe's section `train`.
struct OptimizerKinds {
  using Row = Kind<std::unique_ptr<torch::optim::Optimizer>, OptimizerSite>;
  static constexpr const char* kDefault = "adam";
  static constexpr const char* kWhat = "optimizer";
  static constexpr const char* kDoc = "";
  static constexpr const char* kOptionsKey = "";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::train
