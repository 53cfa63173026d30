#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <string>

#include "moekit/checkpoint/safetensors.h"

namespace moekit::checkpoint {

/// The optimizer's state as tensors named "<parameter>.<state>" ("router.weight.exp_avg"), so that
/// a structural edit can carry over the state of the parameters it keeps. Knows `torch::optim`'s
/// SGD, Adam and AdamW.
/// @throws ArgumentError for another optimizer.
TensorFile optimizer_tensors(torch::optim::Optimizer& optimizer, const torch::nn::Module& model);

/// Puts the state back; parameters without entries start anew.
/// @throws FormatError when an entry names no parameter or has another size.
void load_optimizer_tensors(torch::optim::Optimizer& optimizer, const torch::nn::Module& model,
                            const TensorFile& file, const std::string& where);

}  // namespace moekit::checkpoint
