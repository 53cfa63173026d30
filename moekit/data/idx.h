#pragma once

#include <torch/types.h>

#include <filesystem>
#include <string>

namespace moekit::data {

/// Reads an IDX file of unsigned bytes (MNIST and its relatives), plain, .gz or .xz.
/// Format: 0, 0, type (8: unsigned byte), number of dimensions, each size as big-endian 32 bit,
/// then the values.
/// @return uint8, [N] or [N, H, W]
/// @throws FormatError naming the path: another type, a size that does not match the data, more
///         than 2^31 bytes.
torch::Tensor read_idx(const std::filesystem::path& path);

/// As `read_idx`, from unpacked bytes; `where` stands for the path in messages.
torch::Tensor parse_idx(const std::string& bytes, const std::string& where);

}  // namespace moekit::data
