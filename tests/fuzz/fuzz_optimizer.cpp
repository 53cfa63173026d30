#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/checkpoint/safetensors.h"
#include "tests/fuzz/input.h"

namespace {

/// Loads a state and takes a step with it.
template <typename Optimizer, typename Options>
void load_and_step(const moekit::checkpoint::TensorSource& source, const Options& options) {
  torch::nn::Linear model(2, 2);
  Optimizer optimizer(model->parameters(), options);
  moekit::checkpoint::load_optimizer_tensors(optimizer, *model, source);
  for (auto& parameter : model->parameters()) {
    parameter.mutable_grad() = torch::ones_like(parameter);
  }
  optimizer.step();
}

}  // namespace

// An optimizer's state, into optimizers of two kinds.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  const auto file = fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] {
    const checkpoint::MappedTensors source(file);
    fuzz::read_untrusted(
        [&] { load_and_step<torch::optim::Adam>(source, torch::optim::AdamOptions(0.1)); });
    fuzz::read_untrusted([&] {
      load_and_step<torch::optim::SGD>(source, torch::optim::SGDOptions(0.1).momentum(0.9));
    });
  });
}
