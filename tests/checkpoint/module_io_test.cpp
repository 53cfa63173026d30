#include "moekit/checkpoint/module_io.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/sgd.h>

#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/core/error.h"
#include "moekit/nn/experts/conv_net.h"

namespace moekit::checkpoint {
namespace {

TEST(ModuleTensors, CarryParametersAndBuffersIntoAnotherModule) {
  const auto options = nn::ConvNetOptions(1, 8, 8).blocks({{2, 3, 0, true}}).hidden({3});
  nn::ConvNetStack a(options);
  nn::ConvNetStack b(options);
  a->forward(torch::randn({4, 1, 8, 8}));  // moves the running statistics
  load_module_tensors(*b, module_tensors(*a));
  a->eval();
  b->eval();
  const auto x = torch::randn({2, 1, 8, 8});
  EXPECT_TRUE(torch::equal(a->forward(x), b->forward(x)));
}

TEST(LoadModuleTensors, ListsMissingUnexpectedAndMisshapenTensorsAndLoadsNothing) {
  torch::nn::Linear module(3, 2);
  const auto before = module->bias.detach().clone();
  const MemoryTensors tensors{{"weight", torch::zeros({4, 3})}, {"extra", torch::zeros({1})}};
  try {
    load_module_tensors(*module, tensors);
    FAIL();
  } catch (const FormatError& error) {
    const std::string text = error.what();
    for (const char* part : {"tensors in memory", "missing bias [2]", "unexpected extra [1]",
                             "weight is [4, 3]", "wanted [2, 3]"}) {
      EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
    }
  }
  EXPECT_TRUE(torch::equal(module->bias, before));
}

TEST(LoadModuleTensors, RefusesAnotherDtype) {
  torch::nn::Linear module(3, 2);
  const MemoryTensors tensors{{"weight", torch::zeros({2, 3}, torch::kFloat64)},
                              {"bias", torch::zeros({2})}};
  EXPECT_THROW(load_module_tensors(*module, tensors), FormatError);
}

TEST(LoadSubmoduleTensors, TakesWhatLiesUnderThePrefixAlone) {
  torch::nn::Linear module(3, 2);
  MemoryTensors tensors{{"router.weight", torch::full({2, 3}, 4.0)},
                        {"router.bias", torch::full({2}, 5.0)},
                        {"experts.weight", torch::zeros({9})}};
  load_submodule_tensors(*module, tensors, "router.");
  EXPECT_TRUE(torch::equal(module->weight.detach(), torch::full({2, 3}, 4.0)));
  EXPECT_TRUE(torch::equal(module->bias.detach(), torch::full({2}, 5.0)));
  tensors.add("router.extra", torch::zeros({1}));
  try {
    load_submodule_tensors(*module, tensors, "router.");
    FAIL();
  } catch (const FormatError& error) {
    const std::string text = error.what();
    for (const char* part : {"(router.*)", "unexpected extra [1]"}) {
      EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
    }
  }
}

template <typename Make>
void expect_same_continuation(Make make) {
  torch::manual_seed(1);
  torch::nn::Linear a(4, 2);
  auto first = make(a->parameters());
  const auto x = torch::randn({6, 4});
  const auto step = [&](torch::nn::Linear& m, torch::optim::Optimizer& o) {
    o.zero_grad();
    m->forward(x).square().sum().backward();
    o.step();
  };
  for (int i = 0; i < 3; ++i) step(a, *first);
  torch::nn::Linear b(4, 2);
  load_module_tensors(*b, module_tensors(*a));
  auto second = make(b->parameters());
  load_optimizer_tensors(*second, *b, optimizer_tensors(*first, *a));
  for (int i = 0; i < 3; ++i) {
    step(a, *first);
    step(b, *second);
  }
  EXPECT_TRUE(torch::equal(a->weight, b->weight));
}

TEST(OptimizerTensors, ContinueToTheSameWeightsBitForBit) {
  using Parameters = std::vector<torch::Tensor>;
  expect_same_continuation([](const Parameters& p) {
    return std::make_unique<torch::optim::Adam>(p, torch::optim::AdamOptions(0.1).amsgrad(true));
  });
  expect_same_continuation(
      [](const Parameters& p) { return std::make_unique<torch::optim::AdamW>(p); });
  expect_same_continuation([](const Parameters& p) {
    return std::make_unique<torch::optim::SGD>(p, torch::optim::SGDOptions(0.01).momentum(0.9));
  });
}

}  // namespace
}  // namespace moekit::checkpoint
