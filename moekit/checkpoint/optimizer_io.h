#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include "moekit/checkpoint/memory_tensors.h"

namespace moekit::checkpoint {

/// The optimizer's state as tensors named "<parameter>.<state>" ("router.weight.exp_avg"), so that
/// a structural edit can carry over the state of the parameters it keeps. Knows `torch::optim`'s
/// SGD, Adam and AdamW.
/// @throws ArgumentError for another optimizer.
MemoryTensors optimizer_tensors(torch::optim::Optimizer& optimizer, const torch::nn::Module& model);

/// Puts the state back as copies; parameters without entries start anew.
/// @throws FormatError when an entry names no parameter or has another size, or a step is no
/// number.
void load_optimizer_tensors(torch::optim::Optimizer& optimizer, const torch::nn::Module& model,
                            const TensorSource& source);

/// Indexes the first dimension of what the optimizer remembers of `parameter` (moments, momentum).
void take_optimizer_rows(torch::optim::Optimizer& optimizer, const torch::Tensor& parameter,
                         const torch::Tensor& index);

/// Puts `parameter` into the group of `source`, with a copy of its state.
/// @throws ArgumentError when `source` is in no group.
void copy_optimizer_parameter(torch::optim::Optimizer& optimizer, const torch::Tensor& source,
                              const torch::Tensor& parameter);

/// Takes `parameter` out of its group and forgets its state.
void remove_optimizer_parameter(torch::optim::Optimizer& optimizer, const torch::Tensor& parameter);

}  // namespace moekit::checkpoint
