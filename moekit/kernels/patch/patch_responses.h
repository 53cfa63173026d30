#pragma once

#include <cstdint>

#include "moekit/kernels/common/activation.h"
#include "moekit/kernels/common/isa.h"

/// Kernels on plain memory, free of torch. Sizes are the caller's to check.
namespace moekit::kernels {

/// Whether these kernels have code for an activation: those that cost a few multiplications,
/// identity, relu and cubic.
bool has_patch_kernel(Activation activation);

/// A two-layer network over patches whose second layer is fixed to ones.
struct PatchShape {
  std::int64_t patches;  ///< P
  std::int64_t dim;      ///< d
  std::int64_t classes;  ///< C
  std::int64_t filters;  ///< J a class; C * J in all, those of class 0 first
  Activation activation;
};

/// output[i, c] = sum_{j<J} sum_p act(<weight[c * J + j], sample_i[p]> + bias[c * J + j]) for the
/// samples rows[0] .. rows[count - 1] (or 0 .. count - 1 where rows is null).
/// @param samples  [*, P, d] @param weight [C * J, d] @param bias [C * J] @param output [count, C]
/// @throws ArgumentError unless has_patch_kernel(); so does the backward pass.
void patch_responses_forward(const PatchShape& shape, const float* samples,
                             const std::int64_t* rows, std::int64_t count, const float* weight,
                             const float* bias, float* output);

/// grad_weight += and grad_bias += the gradients for grad_output [count, C]. Responses are computed
/// again. Sums in float over a group of samples (128 patches, or one sample), in double over those.
/// @param grad_weight [C * J, d] @param grad_bias [C * J]
void patch_responses_backward(const PatchShape& shape, const float* samples,
                              const std::int64_t* rows, std::int64_t count, const float* weight,
                              const float* bias, const float* grad_output, double* grad_weight,
                              double* grad_bias);

/// One implementation of the two.
struct PatchKernels {
  decltype(&patch_responses_forward) forward;
  decltype(&patch_responses_backward) backward;
};
const PatchKernels* patch_responses_avx512();
const PatchKernels* patch_responses_avx2();
const PatchKernels* patch_responses_generic();

/// What runs on a machine with `isa`; the two functions above use that of `default_isa()`.
const PatchKernels& patch_responses_kernels(Isa isa);

}  // namespace moekit::kernels
