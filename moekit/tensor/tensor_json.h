#pragma once

#include <torch/types.h>

#include "moekit/core/config.h"

namespace moekit::tensor {

/// The values of a tensor [N] as a list: whole numbers of integer and bool tensors, else doubles.
/// @throws ArgumentError unless it has one dimension
Json to_json_values(const torch::Tensor& values);

/// A table [R, C] as a list of R lists, each as `to_json_values` gives it.
/// @throws ArgumentError unless it has two dimensions
Json to_json_rows(const torch::Tensor& table);

}  // namespace moekit::tensor
