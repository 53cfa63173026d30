#include "moekit/events/record_file.h"

#include <boost/crc.hpp>

#include "moekit/core/files.h"

namespace moekit::events {
namespace {

constexpr std::uint64_t kHeaderBytes = 12;  // length and its CRC
constexpr std::uint64_t kFooterBytes = 4;

template <typename Unsigned>
std::string little_endian(Unsigned value) {
  std::string out;
  for (std::size_t i = 0; i < sizeof(value); ++i) {
    out += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
  }
  return out;
}

template <typename Unsigned>
Unsigned from_little_endian(std::string_view bytes) {
  Unsigned value = 0;
  for (std::size_t i = 0; i < sizeof(value); ++i) {
    value |= static_cast<Unsigned>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return value;
}

}  // namespace

std::uint32_t masked_crc32c(std::string_view bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  const std::uint32_t value = crc.checksum();
  return ((value >> 15) | (value << 17)) + 0xA282EAD8U;
}

std::string frame_record(std::string_view bytes) {
  const std::string length = little_endian(static_cast<std::uint64_t>(bytes.size()));
  std::string record = length + little_endian(masked_crc32c(length));
  record += bytes;
  return record + little_endian(masked_crc32c(bytes));
}

RecordReader::RecordReader(const std::filesystem::path& path) : bytes_(read_file(path)) {}

std::optional<std::string_view> RecordReader::next() {
  const std::string_view rest = std::string_view(bytes_).substr(position_);
  if (rest.size() < kHeaderBytes + kFooterBytes) return std::nullopt;
  const std::string_view length = rest.substr(0, 8);
  const auto size = from_little_endian<std::uint64_t>(length);
  if (from_little_endian<std::uint32_t>(rest.substr(8, 4)) != masked_crc32c(length) ||
      size > rest.size() - kHeaderBytes - kFooterBytes) {
    return std::nullopt;
  }
  const std::string_view bytes = rest.substr(kHeaderBytes, size);
  if (from_little_endian<std::uint32_t>(rest.substr(kHeaderBytes + size, 4)) !=
      masked_crc32c(bytes)) {
    return std::nullopt;
  }
  position_ += kHeaderBytes + size + kFooterBytes;
  return bytes;
}

}  // namespace moekit::events
