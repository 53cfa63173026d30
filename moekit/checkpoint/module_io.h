#pragma once

#include <torch/nn/module.h>

#include <filesystem>
#include <string>

#include "moekit/checkpoint/safetensors.h"

namespace moekit::checkpoint {

/// All parameters and buffers of a module, by their dotted names.
TensorFile module_tensors(const torch::nn::Module& module);

/// Copies tensors into a module, all or nothing.
/// @param where  stands before the message: the file's path
/// @throws FormatError listing every missing, unexpected or misshapen tensor by name.
void load_module_tensors(torch::nn::Module& module, const TensorFile& file,
                         const std::string& where);

/// As `load_module_tensors` for the tensors whose names start with `prefix`, with it taken off.
void load_submodule_tensors(torch::nn::Module& module, const TensorFile& file,
                            const std::string& prefix, const std::string& where);

}  // namespace moekit::checkpoint
