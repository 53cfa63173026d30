#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <functional>
#include <limits>

#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/checkpoint/optimizer_rows.h"
#include "moekit/core/error.h"

namespace moekit::checkpoint {
namespace {

using Tensors = std::map<std::string, torch::Tensor>;

Tensors state_of(torch::optim::Optimizer& optimizer, const torch::nn::Module& module) {
  Tensors out;
  const auto tensors = optimizer_tensors(optimizer, module);
  for (const auto& name : tensors.names()) out[name] = tensors.read(name).clone();
  return out;
}

MemoryTensors source_of(const Tensors& tensors) {
  MemoryTensors source;
  for (const auto& [name, tensor] : tensors) source.add(name, tensor);
  return source;
}

void expect_same(const Tensors& a, const Tensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(torch::equal(tensor, b.at(name))) << name;
}

/// A layer that took two steps, and what its optimizer remembers.
template <typename Optimizer>
struct Trained {
  template <typename Options>
  explicit Trained(const Options& options) : optimizer(module->parameters(), options) {
    torch::manual_seed(1);
    for (int i = 0; i < 2; ++i) {
      optimizer.zero_grad();
      module->forward(torch::randn({6, 3})).square().sum().backward();
      optimizer.step();
    }
    state = state_of(optimizer, *module);
  }
  /// The refusal of a state that was changed; the optimizer must be as it was.
  std::string refusal(const std::function<void(Tensors&)>& change) {
    auto bad = state;
    change(bad);
    std::string text = "accepted";
    try {
      load_optimizer_tensors(optimizer, *module, source_of(bad));
    } catch (const FormatError& error) {
      text = error.what();
    }
    if (text != "accepted") expect_same(state, state_of(optimizer, *module));
    return text;
  }
  torch::nn::Linear module{3, 2};
  Optimizer optimizer;
  Tensors state;
};

void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text << "\n  wants: " << part;
}

TEST(OptimizerTensors, WhatDoesNotFitAdamIsRefusedBeforeAnythingIsLoaded) {
  Trained<torch::optim::Adam> adam{torch::optim::AdamOptions(0.1)};
  const auto set = [&](const std::string& name, const torch::Tensor& value) {
    return adam.refusal([&](Tensors& state) { state[name] = value; });
  };
  const auto whole = [](int64_t n) { return torch::tensor(n, torch::kLong); };
  expect_part(adam.refusal([](Tensors& state) { state.clear(); }),
              "weight.exp_avg is missing; Adam needs it");
  expect_part(adam.refusal([](Tensors& state) { state.erase("bias.exp_avg_sq"); }),
              "bias.exp_avg_sq is missing");
  expect_part(adam.refusal([](Tensors& state) { state.erase("bias.step"); }),
              "bias.step is missing");
  expect_part(set("weight.exp_avg", torch::tensor(0.5F)), "weight.exp_avg is []; wanted [2, 3]");
  expect_part(set("weight.exp_avg", torch::zeros({3, 2})), "is [3, 2]; wanted [2, 3]");
  expect_part(set("weight.exp_avg", torch::zeros({2, 3}, torch::kDouble)),
              "weight.exp_avg is Double; wanted Float");
  expect_part(set("weight.exp_avg", torch::full({2, 3}, std::nanf(""))), "are not finite");
  expect_part(set("weight.exp_avg_sq", torch::full({2, 3}, -1.0F)), "are negative or NaN");
  expect_part(set("bias.step", whole(0)),
              "bias.step must be 1..9223372036854775807, the steps of the run; got 0");
  expect_part(set("bias.step", torch::tensor(2.0F)), "bias.step is Float; wanted Long");
  expect_part(set("bias.step", torch::ones({1}, torch::kLong)), "bias.step is [1]; wanted []");
  expect_part(set("bias.unset", whole(1)), "bias.unset is nothing that Adam");
  expect_part(set("bias.momentum_buffer", torch::zeros({2})), "is nothing that Adam");
  expect_part(set("bias.max_exp_avg_sq", torch::zeros({2})), "is nothing that Adam");
  expect_part(set("bias.row_steps", torch::ones({3}, torch::kLong)), "is [3]; wanted [2]");
  expect_part(set("nobody.step", whole(1)), "nobody.step belongs to no parameter");
  EXPECT_EQ(set("weight.exp_avg_sq", torch::full({2, 3}, std::numeric_limits<float>::infinity())),
            "accepted");
}

TEST(OptimizerTensors, WhatDoesNotFitSgdIsRefused) {
  Trained<torch::optim::SGD> momentum{torch::optim::SGDOptions(0.1).momentum(0.9)};
  expect_part(momentum.refusal([](Tensors& state) { state.clear(); }),
              "weight.momentum_buffer is missing; SGD needs it");
  expect_part(momentum.refusal([](Tensors& state) {
    state["bias.momentum_buffer"] = torch::full({2}, std::numeric_limits<float>::infinity());
  }),
              "are not finite");
  Trained<torch::optim::SGD> plain{torch::optim::SGDOptions(0.1)};
  EXPECT_TRUE(plain.state.empty());
  expect_part(
      plain.refusal([](Tensors& state) { state["bias.momentum_buffer"] = torch::zeros(2); }),
      "is nothing that SGD");
}

TEST(OptimizerTensors, AParameterThatTookNoStepIsSaidToBeUnset) {
  torch::nn::Linear module(3, 2);
  torch::optim::Adam adam(module->parameters());
  module->bias.mutable_grad() = torch::ones({2});
  adam.step();
  const auto state = state_of(adam, *module);
  EXPECT_EQ(state.count("weight.unset"), 1U);
  EXPECT_EQ(state.count("bias.exp_avg"), 1U);
  torch::optim::Adam other(module->parameters());
  module->weight.mutable_grad() = torch::ones({2, 3});
  other.step();
  load_optimizer_tensors(other, *module, source_of(state));
  expect_same(state, state_of(other, *module));
}

TEST(OptimizerTensors, StateOfAParameterTheOptimizerHasNotIsRefused) {
  Trained<torch::optim::Adam> adam{torch::optim::AdamOptions(0.1)};
  torch::optim::Adam weight_only(std::vector<torch::Tensor>{adam.module->weight});
  EXPECT_THROW(load_optimizer_tensors(weight_only, *adam.module, source_of(adam.state)),
               FormatError);
}

TEST(OptimizerTensors, AnotherKindOfOptimizerIsRefused) {
  torch::nn::Linear module(3, 2);
  torch::optim::RMSprop other(module->parameters());
  EXPECT_THROW(optimizer_tensors(other, *module), ArgumentError);
  EXPECT_THROW(OptimizerEdit{other}, ArgumentError);
}

/// A stack of three experts, and each of them as a parameter with an optimizer of its own.
struct Stacked : torch::nn::Module {
  Stacked() : weight(register_parameter("weight", torch::randn({3, 2, 2}))) {}
  torch::Tensor weight;
};

using Make = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<torch::Tensor>)>;

void expect_each_row_steps_by_itself(const Make& make) {
  torch::manual_seed(2);
  Stacked stack;
  auto optimizer = make({stack.weight});
  std::vector<torch::Tensor> alone;
  std::vector<std::unique_ptr<torch::optim::Optimizer>> of_each;
  for (int64_t e = 0; e < 3; ++e) {
    alone.push_back(stack.weight[e].detach().clone().requires_grad_());
    of_each.push_back(make({alone.back()}));
  }
  const auto step = [&](const std::vector<int>& flags) {
    const auto gradient = torch::randn({3, 2, 2});
    auto active = torch::zeros({3}, torch::kBool);
    for (int64_t e = 0; e < 3; ++e) {
      if (flags[static_cast<size_t>(e)] == 0) continue;
      active[e] = true;
      alone[static_cast<size_t>(e)].mutable_grad() = gradient[e].clone();
      of_each[static_cast<size_t>(e)]->step();
    }
    step_rows(*optimizer, stack.weight, gradient, active);
    for (int64_t e = 0; e < 3; ++e) {
      EXPECT_TRUE(torch::equal(stack.weight[e], alone[static_cast<size_t>(e)])) << e;
    }
  };
  step({1, 1, 0});
  step({1, 0, 0});
  step({1, 1, 1});
  // A saved state goes on to the same bits.
  const auto saved = state_of(*optimizer, stack);
  optimizer = make({stack.weight});
  load_optimizer_tensors(*optimizer, stack, source_of(saved));
  step({0, 1, 1});
  step({1, 1, 1});
}

TEST(StepRows, EachRowGoesItsOwnWayBitForBit) {
  using Parameters = std::vector<torch::Tensor>;
  expect_each_row_steps_by_itself([](Parameters p) {
    return std::make_unique<torch::optim::Adam>(
        std::move(p), torch::optim::AdamOptions(0.1).amsgrad(true).weight_decay(0.1));
  });
  expect_each_row_steps_by_itself([](Parameters p) {
    return std::make_unique<torch::optim::AdamW>(std::move(p), torch::optim::AdamWOptions(0.1));
  });
  expect_each_row_steps_by_itself([](Parameters p) {
    return std::make_unique<torch::optim::SGD>(
        std::move(p), torch::optim::SGDOptions(0.1).momentum(0.9).dampening(0.5));
  });
  expect_each_row_steps_by_itself([](Parameters p) {
    return std::make_unique<torch::optim::SGD>(std::move(p),
                                               torch::optim::SGDOptions(0.1).weight_decay(0.2));
  });
}

}  // namespace
}  // namespace moekit::checkpoint
