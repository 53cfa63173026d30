#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "moekit/core/files.h"

namespace moekit::data {

/// A file's content, unpacked piece by piece: .gz (zlib, any number of members) and .xz (liblzma)
/// by the file's first bytes, any other file as it is. Takes memory for the unpacker alone, at most
/// 128 MiB, whatever the file claims.
class UnpackedFile {
 public:
  /// @throws IoError naming the path: not there, no regular file, not to be read.
  explicit UnpackedFile(const std::filesystem::path& path);
  UnpackedFile(const UnpackedFile&) = delete;
  UnpackedFile& operator=(const UnpackedFile&) = delete;
  ~UnpackedFile();

  /// The next bytes: `size` of them, or fewer where the content ends.
  /// @throws FormatError naming the path: truncated, corrupt, more memory needed than above.
  std::size_t read(char* to, std::size_t size);

  class Unpacker;

 private:
  MappedFile file_;
  std::unique_ptr<Unpacker> unpacker_;
};

/// The whole content of a file, as `UnpackedFile` gives it.
/// @param max_bytes  most bytes accepted after unpacking; no more are unpacked
/// @throws IoError, or FormatError naming the path: truncated, corrupt or too large.
std::string read_unpacked(const std::filesystem::path& path, std::uint64_t max_bytes);

}  // namespace moekit::data
