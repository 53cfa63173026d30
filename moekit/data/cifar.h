#pragma once

#include <filesystem>
#include <vector>

#include "moekit/data/image_dataset.h"

namespace moekit::data {

/// Reads CIFAR's binary files (plain, .gz or .xz) one after the other. A record is `label_bytes`
/// labels, of which the last (the fine one) is used, and 3,072 pixel bytes: red, green, blue, each
/// 32 x 32 row-major.
/// @param label_bytes  1 for CIFAR-10, 2 for CIFAR-100
/// @throws FormatError naming the path when the size is no whole number of records or a label is
///         outside 0..num_classes-1.
ImageSet read_cifar(const std::vector<std::filesystem::path>& paths, int64_t label_bytes,
                    int64_t num_classes);

}  // namespace moekit::data
