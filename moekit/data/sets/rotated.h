#pragma once

#include "moekit/data/datasets.h"

namespace moekit::data {

/// "Was this image rotated?": each image as it is (label 0) and rotated by 30 degrees (label 1),
/// one after the other, both cropped to the middle three quarters and resized back, so that no
/// black corner tells. Training images are blurred with a fixed Gaussian (3 x 7 taps, sigma 1.65,
/// the middle of the released code's random range [inferred]). The original classes are kept as
/// the true clusters.
/// Source: Chen et al. 2022, arXiv:2208.02813, CIFAR-10-Rotate, as in the released code.
/// @param nearest  pixels of a rotated image are those nearest to where they come from, as in the
///                 released code (torchvision's default); else bilinear between four
ImageDataset make_rotation_task(const ImageDataset& source, bool nearest = false);

/// "cifar10-rotate"
DatasetRow cifar10_rotate_row();

}  // namespace moekit::data
