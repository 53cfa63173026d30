#pragma once

#include <filesystem>

#include "moekit/data/datasets.h"

namespace moekit::data {

/// 32x32 colour photographs of 100 classes (the fine labels), in CIFAR's binary files
/// (`data/cifar.h`): train.bin and test.bin, of 50,000 and 10,000 images, or else parts of them,
/// any number of images each. Source: Krizhevsky 2009.
/// @throws IoError, FormatError naming the file: not there, broken, of another size, or naming the
///         part without an image of some class
ImageDataset read_cifar100(const std::filesystem::path& folder);

DatasetRow cifar100_row();

}  // namespace moekit::data
