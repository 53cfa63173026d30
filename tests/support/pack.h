#pragma once

#include <lzma.h>
#include <zlib.h>

#include <string>

namespace moekit::test_support {

inline std::string gzip(const std::string& bytes, int level = 1) {
  z_stream stream{};
  deflateInit2(&stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

/// `bytes`, then as many zeros.
inline std::string xz(const std::string& bytes, std::size_t zeros = 0) {
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_easy_encoder(&stream, 0, LZMA_CHECK_CRC32) != LZMA_OK) return {};
  std::string out;
  std::string chunk(1 << 20, '\0');
  const auto feed = [&](const std::string& part, lzma_action action) {
    stream.next_in = reinterpret_cast<const std::uint8_t*>(part.data());
    stream.avail_in = part.size();
    lzma_ret status = LZMA_OK;
    do {
      stream.next_out = reinterpret_cast<std::uint8_t*>(chunk.data());
      stream.avail_out = chunk.size();
      status = lzma_code(&stream, action);
      out.append(chunk.data(), chunk.size() - stream.avail_out);
    } while (status == LZMA_OK && (stream.avail_in > 0 || action == LZMA_FINISH));
  };
  feed(bytes, LZMA_RUN);
  const std::string block(1 << 20, '\0');
  for (; zeros >= block.size(); zeros -= block.size()) feed(block, LZMA_RUN);
  feed(std::string(zeros, '\0'), LZMA_FINISH);
  lzma_end(&stream);
  return out;
}

}  // namespace moekit::test_support
