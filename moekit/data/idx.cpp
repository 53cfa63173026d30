#include "moekit/data/idx.h"

#include <algorithm>
#include <array>
#include <functional>

#include "moekit/core/error.h"
#include "moekit/core/memory.h"
#include "moekit/data/compressed.h"

namespace moekit::data {
namespace {

constexpr uint64_t kMaxIdxBytes = uint64_t{1} << 31;
constexpr uint8_t kUnsignedByte = 0x08;
constexpr size_t kMaxDims = 4;

/// Gives the next bytes, fewer where they end.
using Source = std::function<size_t(char*, size_t)>;

/// The sizes that the header tells of, whose product is at most `kMaxIdxBytes`, also with sizes of
/// 0 left aside, so that no stride overflows.
std::vector<int64_t> read_header(const Source& source, const std::string& where) {
  std::array<uint8_t, 4 + 4 * kMaxDims> header{};
  const auto next = [&](size_t at, size_t count) {
    return source(reinterpret_cast<char*>(header.data()) + at, count);
  };
  MOEKIT_CHECK_FORMAT(next(0, 4) == 4 && header[0] == 0 && header[1] == 0, where,
                      ": is no IDX file");
  MOEKIT_CHECK_FORMAT(header[2] == kUnsignedByte, where, ": IDX type ", int{header[2]},
                      "; only unsigned bytes (8) are read");
  const size_t dims = header[3];
  MOEKIT_CHECK_FORMAT(dims >= 1 && dims <= kMaxDims, where, ": ", dims, " dimensions");
  MOEKIT_CHECK_FORMAT(next(4, 4 * dims) == 4 * dims, where, ": the header ends too early");
  std::vector<int64_t> shape;
  uint64_t total = 1;
  for (size_t d = 0; d < dims; ++d) {
    uint64_t size = 0;
    for (size_t b = 0; b < 4; ++b) size = size << 8 | header[4 + 4 * d + b];
    MOEKIT_CHECK_FORMAT(size == 0 || total <= kMaxIdxBytes / size, where,
                        ": the sizes in the header are too large");
    total *= std::max<uint64_t>(size, 1);
    shape.push_back(static_cast<int64_t>(size));
  }
  return shape;
}

torch::Tensor read_values(const Source& source, const std::string& where,
                          const std::vector<int64_t>& wanted) {
  const auto shape = read_header(source, where);
  MOEKIT_CHECK_FORMAT(wanted.empty() || shape == wanted, where, ": holds ", c10::IntArrayRef(shape),
                      " bytes; wanted ", c10::IntArrayRef(wanted));
  const std::string shortage = memory_shortage(shape, 1);
  if (!shortage.empty()) throw IoError(concat(where, ": ", shortage));
  size_t total = 1;
  for (const int64_t size : shape) total *= static_cast<size_t>(size);
  // As much memory as bytes come, and one step ahead: the header may tell of gigabytes that are
  // not there.
  constexpr size_t kFirst = size_t{1} << 26;
  auto flat = torch::empty({static_cast<int64_t>(std::min(total, kFirst))}, torch::kUInt8);
  size_t got = 0;
  while (got < total) {
    const auto room = static_cast<size_t>(flat.numel());
    if (got == room) flat.resize_({static_cast<int64_t>(std::min(total, 2 * room))});
    const size_t wanted_now = static_cast<size_t>(flat.numel()) - got;
    const size_t part = source(reinterpret_cast<char*>(flat.data_ptr<uint8_t>()) + got, wanted_now);
    got += part;
    if (part < wanted_now) break;
  }
  MOEKIT_CHECK_FORMAT(got == total, where, ": the header tells of ", total, " bytes; ", got,
                      " follow");
  char more = 0;
  MOEKIT_CHECK_FORMAT(source(&more, 1) == 0, where, ": the header tells of ", total,
                      " bytes; more follow");
  return flat.view(shape);
}

}  // namespace

torch::Tensor parse_idx(const std::string& bytes, const std::string& where,
                        const std::vector<int64_t>& shape) {
  size_t at = 0;
  const auto next = [&](char* to, size_t size) {
    const size_t count = std::min(size, bytes.size() - at);
    std::copy_n(bytes.data() + at, count, to);
    at += count;
    return count;
  };
  return read_values(next, where, shape);
}

torch::Tensor read_idx(const std::filesystem::path& path, const std::vector<int64_t>& shape) {
  UnpackedFile file(path);
  return read_values([&](char* to, size_t size) { return file.read(to, size); }, path.string(),
                     shape);
}

}  // namespace moekit::data
