#pragma once

#include <torch/types.h>

namespace moekit::classification {

/// Mirrors half of the images and shifts each by up to 4 pixels, reflecting at the borders.
/// A pure function of its arguments. @param images [N, C, H, W] uint8, H and W at least 5
torch::Tensor flip_and_crop(const torch::Tensor& images, uint64_t seed);

}  // namespace moekit::classification
