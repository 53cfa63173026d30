#include "moekit/data/idx.h"

#include <cstring>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/data/compressed.h"

namespace moekit::data {
namespace {
constexpr uint64_t kMaxIdxBytes = uint64_t{1} << 31;
constexpr uint8_t kUnsignedByte = 0x08;
}  // namespace

torch::Tensor parse_idx(const std::string& bytes, const std::string& where) {
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(bytes[at]); };
  MOEKIT_CHECK_FORMAT(bytes.size() >= 4 && byte(0) == 0 && byte(1) == 0, where, ": is no IDX file");
  MOEKIT_CHECK_FORMAT(byte(2) == kUnsignedByte, where, ": IDX type ", int{byte(2)},
                      "; only unsigned bytes (8) are read");
  const size_t dims = byte(3);
  MOEKIT_CHECK_FORMAT(dims >= 1 && dims <= 4, where, ": ", dims, " dimensions");
  const size_t header = 4 + 4 * dims;
  MOEKIT_CHECK_FORMAT(bytes.size() >= header, where, ": the header ends too early");
  std::vector<int64_t> shape;
  uint64_t total = 1;
  for (size_t d = 0; d < dims; ++d) {
    uint64_t size = 0;
    for (size_t b = 0; b < 4; ++b) size = size << 8 | byte(4 + 4 * d + b);
    MOEKIT_CHECK_FORMAT(size == 0 || total <= kMaxIdxBytes / size, where,
                        ": the sizes in the header are too large");
    total *= size;
    shape.push_back(static_cast<int64_t>(size));
  }
  MOEKIT_CHECK_FORMAT(bytes.size() - header == total, where, ": the header tells of ", total,
                      " bytes; ", bytes.size() - header, " follow");
  auto out = torch::empty(shape, torch::kUInt8);
  if (total > 0) std::memcpy(out.data_ptr<uint8_t>(), bytes.data() + header, total);
  return out;
}

torch::Tensor read_idx(const std::filesystem::path& path) {
  return parse_idx(read_unpacked(path, kMaxIdxBytes), path.string());
}

}  // namespace moekit::data
