#include "moekit/data/cifar.h"

#include <torch/types.h>

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/data/compressed.h"

namespace moekit::data {
namespace {

constexpr int64_t kPixels = int64_t{3} * 32 * 32;
constexpr int64_t kRecordsAtOnce = 64;  // some 200 KB: a small file does not ask for much memory

/// The records of one file, [N, label_bytes + 3072] uint8. Memory grows with what there is.
torch::Tensor read_records(const std::filesystem::path& path, const CifarLayout& layout) {
  UnpackedFile file(path);
  const int64_t record = layout.label_bytes + kPixels;
  std::vector<torch::Tensor> blocks;
  int64_t count = 0;
  for (bool more = true; more && count <= layout.max_records;) {
    const int64_t wanted = std::min(kRecordsAtOnce, layout.max_records + 1 - count);
    auto block = torch::empty({wanted, record}, torch::kUInt8);
    const auto bytes = static_cast<int64_t>(file.read(
        reinterpret_cast<char*>(block.data_ptr<uint8_t>()), static_cast<size_t>(wanted * record)));
    MOEKIT_CHECK_FORMAT(bytes % record == 0, path.string(), ": ", count * record + bytes,
                        " bytes are no whole number of records of ", record);
    const int64_t got = bytes / record;
    blocks.push_back(block.slice(0, 0, got));
    count += got;
    more = got == wanted;
  }
  MOEKIT_CHECK_FORMAT(
      count <= layout.max_records && (!layout.whole_files || count == layout.max_records),
      path.string(), ": ", count > layout.max_records ? "more than " : "",
      std::min(count, layout.max_records), " images; wanted ", layout.whole_files ? "" : "at most ",
      layout.max_records);
  return torch::cat(blocks);
}

}  // namespace

ImageSet read_cifar(const std::vector<std::filesystem::path>& paths, const CifarLayout& layout) {
  std::vector<torch::Tensor> images;
  std::vector<torch::Tensor> labels;
  for (const auto& path : paths) {
    const auto table = read_records(path, layout);
    auto part = make_image_set(
        table.narrow(1, layout.label_bytes, kPixels).reshape({-1, 3, 32, 32}).contiguous(),
        table.select(1, layout.label_bytes - 1).contiguous(), layout.num_classes, path.string());
    images.push_back(part.images);
    labels.push_back(part.labels);
  }
  return {torch::cat(images), torch::cat(labels), {}};
}

}  // namespace moekit::data
