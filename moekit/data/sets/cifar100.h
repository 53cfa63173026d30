#pragma once

#include <filesystem>

#include "moekit/data/datasets.h"

namespace moekit::data {

/// 32x32 colour photographs of 100 classes (the fine labels), in CIFAR's binary files
/// (`data/cifar.h`), whole or in parts. Source: Krizhevsky 2009.
/// @throws IoError, FormatError naming the file
ImageDataset read_cifar100(const std::filesystem::path& folder);

DatasetRow cifar100_row();

}  // namespace moekit::data
