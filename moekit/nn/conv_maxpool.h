#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// 3x3 convolution (stride 1, no padding) of one-channel images, a 2x2 maximum pool, a bias and a
/// ReLU, for E networks in one pass over the images instead of one per network and operation.
/// Network e is `relu(max_pool2d(conv2d(images, weight[e], bias[e]), 2))`; uses the fused kernel
/// for contiguous float32 images that need no gradient, and those operations otherwise.
/// @param images  [N, 1, H, W], H and W at least 4
/// @param weight  [E, C, 1, 3, 3]
/// @param bias    [E, C]. It and the weight get gradients, which do not depend on the number of
///                threads: they are summed over blocks of images in a fixed order.
///                Differentiable any number of times.
/// @return [E, N, C, (H-2)/2, (W-2)/2]
torch::Tensor conv3x3_maxpool2_relu(const torch::Tensor& images, const torch::Tensor& weight,
                                    const torch::Tensor& bias);

/// Mean and covariance of all 3x3 patches of one-channel images.
struct PatchMoments {
  torch::Tensor mean;        ///< [9], float64
  torch::Tensor covariance;  ///< [9, 9], float64, divisor N * (H-2) * (W-2)
};

/// With them the batch statistics of any 3x3 convolution w of these images are known without
/// computing it: mean w . mean, variance w' covariance w. That lets batch normalisation be folded
/// into weight and bias. No gradient.
PatchMoments patch3x3_moments(const torch::Tensor& images);

/// Whether the fused kernel takes these arguments.
bool can_fuse_conv3x3(const torch::Tensor& images, int64_t kernel_size, int64_t padding);

}  // namespace moekit::nn
