#include "moekit/nn/activation.h"

#include "moekit/core/error.h"

namespace moekit::nn {

torch::Tensor activate(const torch::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kIdentity:
      return x;
    case Activation::kRelu:
    case Activation::kReglu:
      return torch::relu(x);
    case Activation::kGelu:
    case Activation::kGeglu:
      return torch::gelu(x);
    case Activation::kSilu:
    case Activation::kSwiglu:
      return torch::silu(x);
    case Activation::kCubic:
      return x * x * x;
    case Activation::kTanh:
      return torch::tanh(x);
    case Activation::kCelu:
      return torch::celu(x);
    case Activation::kSquaredRelu:
      return torch::relu(x).square();
  }
  throw ArgumentError("activate: unknown activation");
}

}  // namespace moekit::nn
