#pragma once

#include <filesystem>

#include "moekit/data/datasets.h"

namespace moekit::data {

/// 32x32 colour photographs of 10 classes, in CIFAR's binary files (`data/cifar.h`); trains on
/// those of the five training files that are there. Source: Krizhevsky 2009.
/// @throws IoError, FormatError naming the file
ImageDataset read_cifar10(const std::filesystem::path& folder);

DatasetRow cifar10_row();

}  // namespace moekit::data
