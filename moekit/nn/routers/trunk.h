#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>

#include "moekit/nn/initialization.h"

namespace moekit::nn {

/// A deep copy of `trunk` registered as child "trunk" of `owner`; an empty one stays empty.
torch::nn::AnyModule register_trunk(torch::nn::Module& owner, const torch::nn::AnyModule& trunk);

/// trunk(tokens), or the tokens themselves without a trunk.
torch::Tensor run_trunk(torch::nn::AnyModule& trunk, const torch::Tensor& tokens);

/// Draws the weights of an `Initializable` trunk anew; another trunk keeps the weights it came
/// with.
void reset_trunk(const torch::nn::AnyModule& trunk, const at::Generator& generator);

}  // namespace moekit::nn
