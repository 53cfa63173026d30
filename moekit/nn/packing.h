#pragma once

#include <torch/nn/module.h>

#include "moekit/kernels/ffn/weight_format.h"

namespace moekit::nn {

/// What packing a model's feed-forward networks took.
struct PackedSize {
  int64_t networks = 0;     ///< experts, shared experts and dense networks
  int64_t bytes = 0;        ///< packed, scales and padding included
  int64_t float_bytes = 0;  ///< of their parameters
};

/// Packs every `MlpExperts` of a model, see MlpExpertsImpl::pack(): its feed-forward networks run
/// on the inference kernels from here on. @throws ArgumentError naming the module, all are unpacked
/// then; also for a model that has none
PackedSize pack_networks(torch::nn::Module& model, kernels::WeightFormat format);
void unpack_networks(torch::nn::Module& model);

}  // namespace moekit::nn
