#pragma once

#include <filesystem>

#include "moekit/data/datasets.h"

namespace moekit::data {

/// 32x32 colour photographs of 10 classes, in CIFAR's binary files (`data/cifar.h`); trains on
/// those of the five training files, 10,000 images each, that are there. Source: Krizhevsky 2009.
/// @throws IoError, FormatError naming the file: not there, broken, not of 10,000 images, or naming
///         the part without an image of some class
ImageDataset read_cifar10(const std::filesystem::path& folder);

DatasetRow cifar10_row();

}  // namespace moekit::data
