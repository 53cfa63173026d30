#include "moekit/nn/initialization.h"

#include <cmath>

namespace moekit::nn {

void init_uniform_fan_in(torch::Tensor& parameter, int64_t fan_in, const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  const double bound = fan_in > 0 ? 1.0 / std::sqrt(static_cast<double>(fan_in)) : 0.0;
  parameter.uniform_(-bound, bound, generator);
}

}  // namespace moekit::nn
