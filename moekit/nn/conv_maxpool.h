#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// 3x3 convolution (stride 1, no padding, no bias) of one-channel images, then a 2x2 maximum
/// pool, in one pass over the images instead of one per operation.
/// Equals `max_pool2d(conv2d(images, weight), 2)`; uses the fused kernel for contiguous float32
/// images that need no gradient, and those two operations otherwise.
/// @param images  [N, 1, H, W], H and W at least 4
/// @param weight  [C, 1, 3, 3]; gets its gradient. The result does not depend on the number of
///                threads: gradients are summed over blocks of images in a fixed order.
/// @return [N, C, (H-2)/2, (W-2)/2]
torch::Tensor conv3x3_maxpool2(const torch::Tensor& images, const torch::Tensor& weight);

/// Mean and covariance of all 3x3 patches of one-channel images.
struct PatchMoments {
  torch::Tensor mean;        ///< [9], float64
  torch::Tensor covariance;  ///< [9, 9], float64, divisor N * (H-2) * (W-2)
};

/// With them the batch statistics of any 3x3 convolution w of these images are known without
/// computing it: mean w . mean, variance w' covariance w. That lets batch normalisation run after
/// the pool, on a quarter of the values. No gradient.
PatchMoments patch3x3_moments(const torch::Tensor& images);

/// Whether the fused kernel takes these arguments.
bool can_fuse_conv3x3(const torch::Tensor& images, int64_t kernel_size, int64_t padding);

}  // namespace moekit::nn
