#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// Modules whose weights can be drawn anew from a generator that is handed in. An undefined
/// generator means libtorch's default one, which `torch::manual_seed` sets.
class Initializable {
 public:
  virtual ~Initializable() = default;
  virtual void reset_parameters(const at::Generator& generator) = 0;
};

/// Uniform in +-1/sqrt(fan_in): what libtorch gives linear and convolution layers (weights and
/// biases), here with the fan-in of one expert of a stack. In place, no gradient.
void init_uniform_fan_in(torch::Tensor& parameter, int64_t fan_in, const at::Generator& generator);

}  // namespace moekit::nn
