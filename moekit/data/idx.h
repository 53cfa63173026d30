#pragma once

#include <torch/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace moekit::data {

/// Reads an IDX file of unsigned bytes (MNIST and its relatives), plain, .gz or .xz.
/// Format: 0, 0, type (8: unsigned byte), number of dimensions 1..4, each size as big-endian 32
/// bit, then the values. The header is checked before memory is taken, and no more is unpacked than
/// it tells of.
/// @param shape  what the file must hold, as a known data set does; empty: any
/// @return uint8, [N] or [N, H, W]
/// @throws FormatError naming the path: another type or shape, a size that does not match the data,
///         more than 2^31 bytes; IoError where that is more than the memory that is free.
torch::Tensor read_idx(const std::filesystem::path& path, const std::vector<int64_t>& shape = {});

/// As `read_idx`, from unpacked bytes; `where` stands for the path in messages.
torch::Tensor parse_idx(const std::string& bytes, const std::string& where,
                        const std::vector<int64_t>& shape = {});

}  // namespace moekit::data
