#pragma once

#include <torch/nn/module.h>

namespace moekit::nn {

/// What probabilities and sums of both are computed in: the wider type, float32 at least.
torch::ScalarType compute_type(const torch::Tensor& a, const torch::Tensor& b);

/// float16 and bfloat16 as float32, others as they are. Gradient comes back in the tensor's type.
torch::Tensor at_least_float(const torch::Tensor& tensor);

/// `tensor` in the type of the module's parameters; as it is when it holds no floating point
/// numbers (ids for an embedding) or there are no parameters. Gradient comes back in the tensor's
/// type.
/// @throws ArgumentError naming two parameters of different types.
torch::Tensor as_parameters(const torch::Tensor& tensor, const torch::nn::Module& module);

}  // namespace moekit::nn
