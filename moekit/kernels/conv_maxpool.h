#pragma once

#include <cstdint>
#include <string_view>

/// Kernels on plain memory, free of torch. Row-major, unaligned pointers are fine, nothing is
/// written outside the stated sizes. Arguments are the caller's to check.
namespace moekit::kernels {

/// Sizes of a 3x3 convolution (stride 1, no padding, one input channel) followed by a 2x2
/// maximum pool. A last row or column that fills no window is left out, as libtorch does.
struct ConvPoolShape {
  std::int64_t batch;
  std::int64_t height;    ///< >= 4
  std::int64_t width;     ///< >= 4
  std::int64_t channels;  ///< output channels
  std::int64_t pooled_height() const { return (height - 2) / 2; }
  std::int64_t pooled_width() const { return (width - 2) / 2; }
};

/// output[n,c,i,j] = max over the 2x2 window of sum_k weight[c,k] * patch[k]; argmax[n,c,i,j] in
/// 0..3 (row-major in the window, the first of equals) is what the backward pass needs.
/// @param input   [batch, height, width]
/// @param weight  [channels, 9]
/// @param output  [batch, channels, pooled_height, pooled_width]
/// @param argmax  same size as output
void conv3x3_maxpool2_forward(const ConvPoolShape& shape, const float* input, const float* weight,
                              float* output, std::uint8_t* argmax);

/// grad_weight[c,k] += sum over windows of grad_output * patch[k] at the window's argmax.
/// Sums in float within an image, in double over images.
/// @param grad_weight  [channels, 9]
void conv3x3_maxpool2_backward(const ConvPoolShape& shape, const float* input,
                               const float* grad_output, const std::uint8_t* argmax,
                               double* grad_weight);

/// First and second moments of all 3x3 patches: sum[k] += patch[k], products[k * 9 + l] +=
/// patch[k] * patch[l] (both triangles). `shape.channels` is not read.
void patch3x3_moments(const ConvPoolShape& shape, const float* input, double* sum,
                      double* products);

/// The instruction set chosen at run time for this file's kernels: "avx2" or "generic".
std::string_view conv_maxpool_isa();

/// One implementation of the three functions above; listed so that tests can run each.
struct ConvPoolKernels {
  std::string_view isa;
  decltype(&conv3x3_maxpool2_forward) forward;
  decltype(&conv3x3_maxpool2_backward) backward;
  decltype(&patch3x3_moments) moments;
};

/// Fastest first; `supported` tells whether this machine can run it.
const ConvPoolKernels* conv_maxpool_avx2();
const ConvPoolKernels* conv_maxpool_generic();
bool conv_maxpool_avx2_supported();

}  // namespace moekit::kernels
