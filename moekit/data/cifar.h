#pragma once

#include <filesystem>
#include <vector>

#include "moekit/data/image_dataset.h"

namespace moekit::data {

/// What CIFAR's binary files hold.
struct CifarLayout {
  int64_t label_bytes;  ///< a record: 1 for CIFAR-10, 2 for CIFAR-100
  int64_t num_classes;
  int64_t max_records;      ///< most records a file
  bool whole_files = true;  ///< a file has exactly as many
};

/// Reads CIFAR's binary files (plain, .gz or .xz) one after the other. A record is `label_bytes`
/// labels, of which the last (the fine one) is used, and 3,072 pixel bytes: red, green, blue, each
/// 32 x 32 row-major. No more than one record above `max_records` is unpacked.
/// @throws FormatError naming the path when the size is no whole number of records, or not that
///         which the layout tells, or a label is outside 0..num_classes-1.
ImageSet read_cifar(const std::vector<std::filesystem::path>& paths, const CifarLayout& layout);

}  // namespace moekit::data
