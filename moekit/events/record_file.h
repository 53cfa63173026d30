#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace moekit::events {

/// CRC-32C (Castagnoli), rotated and shifted as records keep it.
/// Source: tensorflow/tsl/lib/hash/crc32c.h, Mask.
std::uint32_t masked_crc32c(std::string_view bytes);

/// One record: length (8 bytes), its masked CRC, the bytes, their masked CRC; little-endian.
/// Source: tensorflow/core/lib/io/record_writer.h.
std::string frame_record(std::string_view bytes);

/// Reads the records of a file from its beginning.
class RecordReader {
 public:
  /// @throws IoError naming the path when it cannot be read.
  explicit RecordReader(const std::filesystem::path& path);
  /// The next record, or nothing at the end and at the first one that is torn or damaged.
  std::optional<std::string_view> next();
  /// Behind the last record that next() gave.
  std::uint64_t position() const { return position_; }
  /// Of the file, in bytes.
  std::uint64_t size() const { return bytes_.size(); }

 private:
  std::string bytes_;
  std::uint64_t position_ = 0;
};

}  // namespace moekit::events
