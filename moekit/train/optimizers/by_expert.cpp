#include "moekit/train/optimizers/by_expert.h"

#include <algorithm>

#include "moekit/checkpoint/optimizer_rows.h"
#include "moekit/core/error.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/nn/routed_layer.h"

namespace moekit::train {
namespace {

/// [E] bool: experts with a gradient that is not zero somewhere.
torch::Tensor busy_experts(const std::vector<std::vector<torch::Tensor>>& of_experts) {
  auto busy = torch::zeros({static_cast<int64_t>(of_experts.size())}, torch::kBool);
  auto* flags = busy.data_ptr<bool>();
  for (const auto& parameters : of_experts) {
    *flags++ = std::any_of(parameters.begin(), parameters.end(), [](const torch::Tensor& p) {
      return p.grad().defined() && p.grad().ne(0).any().item<bool>();
    });
  }
  return busy;
}

torch::Tensor busy_rows(const std::vector<torch::Tensor>& stacked, int64_t num_experts) {
  auto busy = torch::zeros({num_experts}, torch::kBool);
  for (const auto& parameter : stacked) {
    if (!parameter.grad().defined()) continue;
    busy = busy.logical_or(parameter.grad().ne(0).reshape({num_experts, -1}).any(1));
  }
  return busy;
}

}  // namespace

/// A parameter that takes no part in the step of the whole.
struct ExpertRows::Aside {
  torch::Tensor parameter;
  torch::Tensor gradient;
  torch::Tensor active;  ///< [E] bool, rows that take a step; undefined: it takes none
};

std::vector<ExpertRows::Aside> ExpertRows::take_aside(torch::optim::Optimizer& optimizer) const {
  std::vector<Aside> aside;
  for (const auto& bank : banks_) {
    const auto& frozen = bank->frozen_experts();
    const auto separate = bank->separate_parameters();
    const auto stacked = nn::stacked_parameters(*bank);
    auto active = torch::ones({bank->num_experts()}, torch::kBool);
    if (frozen.empty() && !skip_idle_) {  // all take part, as rows only where they did before
      for (const auto& p : stacked) {
        if (p.grad().defined() && checkpoint::has_row_steps(optimizer, p)) {
          aside.push_back({p, p.grad(), active});
        }
      }
      continue;
    }
    if (skip_idle_) {
      active = separate.empty() ? busy_rows(stacked, bank->num_experts()) : busy_experts(separate);
    }
    if (!frozen.empty()) active.index_fill_(0, torch::tensor(frozen, torch::kLong), 0);
    for (size_t e = 0; e < separate.size(); ++e) {
      if (active[static_cast<int64_t>(e)].item<bool>()) continue;
      for (const auto& p : separate[e]) {
        if (p.grad().defined()) aside.push_back({p, p.grad(), {}});
      }
    }
    const bool all = active.all().item<bool>();
    for (const auto& p : stacked) {
      if (!p.grad().defined()) continue;
      if (!all || checkpoint::has_row_steps(optimizer, p)) aside.push_back({p, p.grad(), active});
    }
  }
  return aside;
}

void ExpertRows::step(torch::optim::Optimizer& optimizer, const std::function<void()>& step) const {
  const torch::NoGradGuard no_grad;
  auto aside = take_aside(optimizer);
  // libtorch's optimizers pass over a parameter without gradient.
  for (auto& one : aside) one.parameter.mutable_grad().reset();
  const auto give_back = [&] {
    for (auto& one : aside) one.parameter.mutable_grad() = one.gradient;
  };
  try {
    step();
    for (const auto& one : aside) {
      if (!one.active.defined()) continue;
      checkpoint::step_rows(optimizer, one.parameter, one.gradient, one.active);
    }
  } catch (...) {
    give_back();
    throw;
  }
  give_back();
}

ExpertRows make_expert_rows(const OptimizerSite& site, bool skip_idle) {
  std::vector<std::shared_ptr<nn::ExpertsImpl>> banks;
  for (const auto& layer : nn::routed_layers(*site.module)) banks.push_back(layer.experts);
  return {std::move(banks), skip_idle};
}

void check_skip_idle(bool skip_idle, const OptimizerSite& site, const std::string& where) {
  const auto layers = nn::routed_layers(*site.module);
  const bool routes = std::any_of(layers.begin(), layers.end(),
                                  [](const auto& layer) { return layer.router != nullptr; });
  MOEKIT_CHECK(!skip_idle || routes, where,
               ".skip_idle_experts = true: the model has no layer that routes");
}

}  // namespace moekit::train
