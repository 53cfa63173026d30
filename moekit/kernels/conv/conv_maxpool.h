#pragma once

#include <cstdint>

#include "moekit/kernels/common/isa.h"

/// Kernels on plain memory, free of torch. Row-major, unaligned pointers are fine, nothing is
/// written outside the stated sizes. Arguments are the caller's to check.
namespace moekit::kernels {

/// Sizes of a 3x3 convolution (stride 1, no padding, one input channel) followed by a 2x2
/// maximum pool and a ReLU, of several networks on the same images. A last row or column that
/// fills no window is left out, as libtorch does.
struct ConvPoolShape {
  std::int64_t batch;
  std::int64_t height;         ///< >= 4
  std::int64_t width;          ///< >= 4
  std::int64_t channels;       ///< output channels of all networks
  std::int64_t networks = 1;   ///< channels / networks each
  std::int64_t all_batch = 0;  ///< images in the output, of which this call makes `batch`; 0: those
  std::int64_t pooled_height() const { return (height - 2) / 2; }
  std::int64_t pooled_width() const { return (width - 2) / 2; }
  /// Where the outputs of image n and channel c (of all) begin.
  std::int64_t output_at(std::int64_t n, std::int64_t c) const {
    const std::int64_t own = channels / networks;
    const std::int64_t images = all_batch == 0 ? batch : all_batch;
    return ((c / own * images + n) * own + c % own) * pooled_height() * pooled_width();
  }
};

/// output[e,n,c,i,j] = ReLU(bias[e,c] + max over the 2x2 window of sum_k weight[e,c,k] * patch[k]).
/// source[e,n,c,i,j] is what the backward pass needs: where in the window the maximum was, 0..3
/// (row-major, the first of equals), or 4 where the ReLU let nothing through. NaN comes out as NaN
/// where the window's first value is one.
/// @param input   [batch, height, width]
/// @param weight  [channels, 9]
/// @param bias    [channels]
/// @param output  [networks, batch, channels / networks, pooled_height, pooled_width]
/// @param source  same size as output
void conv3x3_maxpool2_relu_forward(const ConvPoolShape& shape, const float* input,
                                   const float* weight, const float* bias, float* output,
                                   std::uint8_t* source);

/// grad_weight[e,c,k] += sum over windows of grad_output * patch[k] at the window's source,
/// grad_bias[e,c] += sum of grad_output where there is one. Sums in float within sixteen
/// images, in double over those.
/// @param grad_weight  [channels, 9]
/// @param grad_bias    [channels]
void conv3x3_maxpool2_relu_backward(const ConvPoolShape& shape, const float* input,
                                    const float* grad_output, const std::uint8_t* source,
                                    double* grad_weight, double* grad_bias);

/// First and second moments of all 3x3 patches: sum[k] += patch[k], products[k * 9 + l] +=
/// patch[k] * patch[l] (both triangles). Of `shape`, batch and image size are read.
void patch3x3_moments(const ConvPoolShape& shape, const float* input, double* sum,
                      double* products);

/// One implementation of the three functions above.
struct ConvPoolKernels {
  decltype(&conv3x3_maxpool2_relu_forward) forward;
  decltype(&conv3x3_maxpool2_relu_backward) backward;
  decltype(&patch3x3_moments) moments;
};

const ConvPoolKernels* conv_maxpool_avx512();
const ConvPoolKernels* conv_maxpool_avx2();
const ConvPoolKernels* conv_maxpool_generic();

/// What runs on a machine with `isa`; the functions above use that of `default_isa()`.
const ConvPoolKernels& conv_maxpool_kernels(Isa isa);

}  // namespace moekit::kernels
