#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <limits>

#include "moekit/checkpoint/memory_tensors.h"

namespace moekit::checkpoint {

/// The optimizer's state as tensors named "<parameter>.<field>" ("router.weight.exp_avg"). A
/// parameter of the optimizer that took no step yet has "<parameter>.unset", so that nothing can be
/// missing unseen. Knows `torch::optim`'s SGD, Adam and AdamW, and what derives from them.
/// @throws ArgumentError for another optimizer.
MemoryTensors optimizer_tensors(torch::optim::Optimizer& optimizer, const torch::nn::Module& model);

/// Puts the state back as copies. The whole of it is checked first: each parameter of the model
/// that the optimizer holds has just the fields that the optimizer's kind and the options of its
/// group ask for, moments of the parameter's shape and dtype with sound values, steps that are
/// whole numbers from 1 to those that the run has taken.
/// @param steps_taken  of the run
/// @throws FormatError naming source, entry and what was wanted; nothing is changed then.
void load_optimizer_tensors(torch::optim::Optimizer& optimizer, const torch::nn::Module& model,
                            const TensorSource& source,
                            int64_t steps_taken = std::numeric_limits<int64_t>::max());

}  // namespace moekit::checkpoint
