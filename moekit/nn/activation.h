#pragma once

#include <torch/types.h>

#include "moekit/kernels/common/activation.h"

namespace moekit::nn {

using moekit::Activation;
using moekit::is_gated;

/// The pointwise part: SiLU for SwiGLU and so on. Gradient flows.
torch::Tensor activate(const torch::Tensor& x, Activation activation);

}  // namespace moekit::nn
