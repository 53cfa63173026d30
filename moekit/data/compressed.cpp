#include "moekit/data/compressed.h"

#include <lzma.h>
#include <zlib.h>

#include <algorithm>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit::data {
namespace {

constexpr std::size_t kChunk = 1 << 20;

void check_size(const std::string& where, std::size_t size, std::uint64_t max_bytes) {
  MOEKIT_CHECK_FORMAT(size <= max_bytes, where, ": unpacks to more than ", max_bytes, " bytes");
}

std::string unpack_gzip(const std::string& packed, const std::string& where,
                        std::uint64_t max_bytes) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) throw IoError(concat(where, ": zlib refused"));
  struct Ender {
    z_stream* stream;
    ~Ender() { inflateEnd(stream); }
  } ender{&stream};
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string out;
  std::vector<char> chunk(kChunk);
  for (int status = Z_OK; status != Z_STREAM_END;) {
    stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
    stream.avail_out = static_cast<uInt>(chunk.size());
    status = inflate(&stream, Z_NO_FLUSH);
    MOEKIT_CHECK_FORMAT(
        status == Z_OK || status == Z_STREAM_END, where,
        stream.avail_in == 0 ? ": the gzip data end too early" : ": the gzip data are corrupt");
    out.append(chunk.data(), chunk.size() - stream.avail_out);
    check_size(where, out.size(), max_bytes);
  }
  return out;
}

std::string unpack_xz(const std::string& packed, const std::string& where,
                      std::uint64_t max_bytes) {
  lzma_stream stream = LZMA_STREAM_INIT;
  constexpr std::uint64_t kMemoryLimit = std::uint64_t{1} << 28;
  if (lzma_stream_decoder(&stream, kMemoryLimit, LZMA_CONCATENATED) != LZMA_OK) {
    throw IoError(concat(where, ": liblzma refused"));
  }
  struct Ender {
    lzma_stream* stream;
    ~Ender() { lzma_end(stream); }
  } ender{&stream};
  stream.next_in = reinterpret_cast<const std::uint8_t*>(packed.data());
  stream.avail_in = packed.size();
  std::string out;
  std::vector<char> chunk(kChunk);
  for (lzma_ret status = LZMA_OK; status != LZMA_STREAM_END;) {
    stream.next_out = reinterpret_cast<std::uint8_t*>(chunk.data());
    stream.avail_out = chunk.size();
    status = lzma_code(&stream, LZMA_FINISH);
    MOEKIT_CHECK_FORMAT(
        status == LZMA_OK || status == LZMA_STREAM_END, where,
        status == LZMA_BUF_ERROR ? ": the xz data end too early" : ": the xz data are corrupt");
    out.append(chunk.data(), chunk.size() - stream.avail_out);
    check_size(where, out.size(), max_bytes);
  }
  return out;
}

bool starts_with(const std::string& bytes, std::initializer_list<unsigned char> magic) {
  return bytes.size() >= magic.size() &&
         std::equal(magic.begin(), magic.end(), bytes.begin(),
                    [](unsigned char a, char b) { return a == static_cast<unsigned char>(b); });
}

}  // namespace

std::string read_unpacked(const std::filesystem::path& path, std::uint64_t max_bytes) {
  // A packed file is smaller than its content, but for a few bytes of an empty one.
  std::string bytes = read_file(path, max_bytes + kChunk);
  if (starts_with(bytes, {0x1f, 0x8b})) return unpack_gzip(bytes, path.string(), max_bytes);
  if (starts_with(bytes, {0xfd, '7', 'z', 'X', 'Z', 0x00})) {
    return unpack_xz(bytes, path.string(), max_bytes);
  }
  check_size(path.string(), bytes.size(), max_bytes);
  return bytes;
}

}  // namespace moekit::data
