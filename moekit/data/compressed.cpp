#include "moekit/data/compressed.h"

#include <lzma.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

#include "moekit/core/error.h"

namespace moekit::data {

/// Turns what is left of the file's bytes into content.
class UnpackedFile::Unpacker {
 public:
  virtual ~Unpacker() = default;
  /// As `UnpackedFile::read`, but may give fewer bytes before the end; 0 is the end.
  virtual std::size_t some(char* to, std::size_t size) = 0;

 protected:
  Unpacker() = default;
  Unpacker(const Unpacker&) = default;
  Unpacker& operator=(const Unpacker&) = default;
};

namespace {

constexpr std::size_t kChunk = 1 << 20;
/// `xz -9` needs 65 MiB.
constexpr std::uint64_t kXzMemory = std::uint64_t{1} << 27;

class PlainBytes : public UnpackedFile::Unpacker {
 public:
  explicit PlainBytes(std::string_view bytes) : bytes_(bytes) {}
  std::size_t some(char* to, std::size_t size) override {
    const std::size_t count = std::min(size, bytes_.size());
    if (count > 0) std::memcpy(to, bytes_.data(), count);
    bytes_.remove_prefix(count);
    return count;
  }

 private:
  std::string_view bytes_;
};

class Gunzip : public UnpackedFile::Unpacker {
 public:
  Gunzip(std::string_view packed, std::string where) : packed_(packed), where_(std::move(where)) {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) throw IoError(concat(where_, ": zlib refused"));
  }
  Gunzip(const Gunzip&) = delete;
  Gunzip& operator=(const Gunzip&) = delete;
  ~Gunzip() override { inflateEnd(&stream_); }

  std::size_t some(char* to, std::size_t size) override {
    const auto wanted = static_cast<uInt>(std::min<std::size_t>(size, kChunk));
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = wanted;
    while (!done_ && stream_.avail_out == wanted) step();
    return wanted - stream_.avail_out;
  }

 private:
  void step() {
    // zlib counts in 32 bits.
    const std::size_t given = std::min<std::size_t>(packed_.size(), kChunk);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed_.data()));
    stream_.avail_in = static_cast<uInt>(given);
    const int status = inflate(&stream_, Z_NO_FLUSH);
    packed_.remove_prefix(given - stream_.avail_in);
    MOEKIT_CHECK_FORMAT(
        status == Z_OK || status == Z_STREAM_END, where_,
        packed_.empty() ? ": the gzip data end too early" : ": the gzip data are corrupt");
    if (status != Z_STREAM_END) return;
    done_ = packed_.empty();
    if (!done_) inflateReset(&stream_);  // another member follows
  }

  std::string_view packed_;
  std::string where_;
  z_stream stream_{};
  bool done_ = false;
};

class Unxz : public UnpackedFile::Unpacker {
 public:
  Unxz(std::string_view packed, std::string where) : where_(std::move(where)) {
    if (lzma_stream_decoder(&stream_, kXzMemory, LZMA_CONCATENATED) != LZMA_OK) {
      throw IoError(concat(where_, ": liblzma refused"));
    }
    stream_.next_in = reinterpret_cast<const std::uint8_t*>(packed.data());
    stream_.avail_in = packed.size();
  }
  Unxz(const Unxz&) = delete;
  Unxz& operator=(const Unxz&) = delete;
  ~Unxz() override { lzma_end(&stream_); }

  std::size_t some(char* to, std::size_t size) override {
    stream_.next_out = reinterpret_cast<std::uint8_t*>(to);
    stream_.avail_out = size;
    while (!done_ && stream_.avail_out == size) {
      const lzma_ret status = lzma_code(&stream_, LZMA_FINISH);
      MOEKIT_CHECK_FORMAT(status == LZMA_OK || status == LZMA_STREAM_END, where_, fault(status));
      done_ = status == LZMA_STREAM_END;
    }
    return size - stream_.avail_out;
  }

 private:
  static std::string fault(lzma_ret status) {
    switch (status) {
      case LZMA_BUF_ERROR:
        return ": the xz data end too early";
      case LZMA_MEMLIMIT_ERROR:
        return concat(": unpacking the xz data takes more than ", kXzMemory >> 20,
                      " MiB of memory");
      case LZMA_MEM_ERROR:
        return ": there is too little memory to unpack the xz data";
      case LZMA_OPTIONS_ERROR:
        return ": the xz data use a filter that is not known";
      default:
        return ": the xz data are corrupt";
    }
  }

  std::string where_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool done_ = false;
};

std::unique_ptr<UnpackedFile::Unpacker> make_unpacker(std::string_view bytes,
                                                      const std::string& where) {
  using std::string_view_literals::operator""sv;
  if (bytes.starts_with("\x1f\x8b"sv)) return std::make_unique<Gunzip>(bytes, where);
  if (bytes.starts_with("\xfd"
                        "7zXZ\0"sv)) {
    return std::make_unique<Unxz>(bytes, where);
  }
  return std::make_unique<PlainBytes>(bytes);
}

}  // namespace

UnpackedFile::UnpackedFile(const std::filesystem::path& path)
    : file_(path),
      unpacker_(make_unpacker(std::string_view(file_.data(), file_.size()), path.string())) {}

UnpackedFile::~UnpackedFile() = default;

std::size_t UnpackedFile::read(char* to, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const std::size_t got = unpacker_->some(to + done, size - done);
    if (got == 0) break;
    done += got;
  }
  return done;
}

std::string read_unpacked(const std::filesystem::path& path, std::uint64_t max_bytes) {
  UnpackedFile file(path);
  std::string out;
  for (std::size_t got = kChunk; got == kChunk;) {
    const std::size_t before = out.size();
    out.resize(before + kChunk);
    got = file.read(out.data() + before, kChunk);
    out.resize(before + got);
    MOEKIT_CHECK_FORMAT(out.size() <= max_bytes, path.string(), ": unpacks to more than ",
                        max_bytes, " bytes");
  }
  return out;
}

}  // namespace moekit::data
