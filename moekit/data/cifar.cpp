#include "moekit/data/cifar.h"

#include <torch/types.h>

#include <cstring>

#include "moekit/core/error.h"
#include "moekit/data/compressed.h"

namespace moekit::data {
namespace {
constexpr int64_t kPixels = int64_t{3} * 32 * 32;
constexpr uint64_t kMaxCifarBytes = uint64_t{1} << 30;
}  // namespace

ImageSet read_cifar(const std::vector<std::filesystem::path>& paths, int64_t label_bytes,
                    int64_t num_classes) {
  const auto record = static_cast<size_t>(label_bytes + kPixels);
  std::vector<torch::Tensor> images;
  std::vector<torch::Tensor> labels;
  for (const auto& path : paths) {
    const std::string bytes = read_unpacked(path, kMaxCifarBytes);
    MOEKIT_CHECK_FORMAT(bytes.size() % record == 0, path.string(), ": ", bytes.size(),
                        " bytes are no whole number of records of ", record);
    const auto count = static_cast<int64_t>(bytes.size() / record);
    auto table = torch::empty({count, label_bytes + kPixels}, torch::kUInt8);
    if (count > 0) std::memcpy(table.data_ptr<uint8_t>(), bytes.data(), bytes.size());
    auto part = make_image_set(
        table.narrow(1, label_bytes, kPixels).reshape({count, 3, 32, 32}).contiguous(),
        table.select(1, label_bytes - 1).contiguous(), num_classes, path.string());
    images.push_back(part.images);
    labels.push_back(part.labels);
  }
  MOEKIT_CHECK(!images.empty(), "read_cifar: no files given");
  return {torch::cat(images), torch::cat(labels), {}};
}

}  // namespace moekit::data
