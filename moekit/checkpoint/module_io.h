#pragma once

#include <torch/nn/module.h>

#include <string>

#include "moekit/checkpoint/memory_tensors.h"

namespace moekit::checkpoint {

/// All parameters and buffers of a module, by their dotted names; they share its memory.
MemoryTensors module_tensors(const torch::nn::Module& module);

/// Copies tensors into a module, all or nothing, each straight out of the source.
/// @throws FormatError listing every missing, unexpected or misshapen tensor by name, the source in
///         front.
void load_module_tensors(torch::nn::Module& module, const TensorSource& source);

/// As `load_module_tensors` for the tensors whose names start with `prefix`, with it taken off;
/// others are left alone.
void load_submodule_tensors(torch::nn::Module& module, const TensorSource& source,
                            const std::string& prefix);

}  // namespace moekit::checkpoint
