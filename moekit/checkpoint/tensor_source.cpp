#include "moekit/checkpoint/tensor_source.h"

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::checkpoint {
namespace {
constexpr uint64_t kMaxBytes = uint64_t{1} << 48;
constexpr size_t kMaxDimensions = 64;  // libtorch's own limit in its element-wise operations
}  // namespace

std::optional<uint64_t> tensor_bytes(Dtype dtype, const std::vector<int64_t>& shape) {
  if (shape.size() > kMaxDimensions) return std::nullopt;
  uint64_t bound = dtype_bytes(dtype);
  bool empty = false;
  for (const int64_t size : shape) {
    if (size < 0) return std::nullopt;
    empty = empty || size == 0;
    const auto factor = static_cast<uint64_t>(std::max<int64_t>(size, 1));
    if (bound > kMaxBytes / factor) return std::nullopt;
    bound *= factor;
  }
  return empty ? 0 : bound;
}

TensorInfo make_tensor_info(std::string name, Dtype dtype, std::vector<int64_t> shape) {
  const auto bytes = tensor_bytes(dtype, shape);
  MOEKIT_CHECK(bytes, "tensor \"", name, "\": ", torch::IntArrayRef(shape),
               " is no possible shape");
  return {std::move(name), dtype, std::move(shape), *bytes};
}

torch::Tensor TensorSource::read(std::string_view name) const {
  const Dtype dtype = info(name).dtype;
  MOEKIT_CHECK_FORMAT(is_torch_dtype(dtype), where(), ": tensor \"", name, "\" is ", dtype,
                      ", which libtorch has no tensors of: it must be read converted");
  return read_codes(name);
}

torch::Tensor TensorSource::read(std::string_view name, torch::ScalarType as) const {
  return decode(read_codes(name), info(name).dtype, as, concat(where(), ": tensor \"", name, "\""));
}

void NameIndex::reserve(size_t count) {
  names_.reserve(count);
  positions_.reserve(count);
}

bool NameIndex::add(std::string name) {
  if (!positions_.emplace(name, names_.size()).second) return false;
  names_.push_back(std::move(name));
  return true;
}

std::optional<size_t> NameIndex::find(std::string_view name) const {
  const auto found = positions_.find(name);
  if (found == positions_.end()) return std::nullopt;
  return found->second;
}

size_t NameIndex::position(std::string_view name, std::string_view where) const {
  const auto found = find(name);
  MOEKIT_CHECK_FORMAT(found, where, ": no tensor is named \"", name, "\"");
  return *found;
}

}  // namespace moekit::checkpoint
