#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace moekit::data {

/// Reads a file, unpacking .gz (zlib) and .xz (liblzma) by the file's first bytes.
/// @param max_bytes  most bytes accepted after unpacking, so that a small file cannot claim all
///                   memory
/// @throws IoError, or FormatError naming the path: truncated, corrupt or too large.
std::string read_unpacked(const std::filesystem::path& path, std::uint64_t max_bytes);

}  // namespace moekit::data
