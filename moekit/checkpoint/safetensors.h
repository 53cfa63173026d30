#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace moekit::checkpoint {

/// Tensors by name, in file order, and the header's "__metadata__".
struct TensorFile {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  std::map<std::string, std::string> metadata;

  /// @throws ArgumentError when no tensor has this name.
  const torch::Tensor& at(const std::string& name) const;
  bool contains(const std::string& name) const;
};

/// Writes the safetensors format (8-byte little-endian header length, JSON header, raw data),
/// readable by the Python package of that name. Atomic: see `write_file_atomic`.
/// @throws ArgumentError for a dtype the format does not have, or two tensors of one name.
void write_safetensors(const std::filesystem::path& path, const TensorFile& file);

/// Reads it back. Every length and offset is checked against the file before use.
/// @throws IoError, or FormatError naming path and key: truncated file, header that is no JSON,
///         offsets that overlap, leave holes or end outside, sizes that do not fit the dtype.
TensorFile read_safetensors(const std::filesystem::path& path);

}  // namespace moekit::checkpoint
