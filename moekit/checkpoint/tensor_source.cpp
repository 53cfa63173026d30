#include "moekit/checkpoint/tensor_source.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "moekit/core/error.h"

namespace moekit::checkpoint {
namespace {
constexpr uint64_t kMaxBytes = uint64_t{1} << 48;
constexpr size_t kMaxDimensions = 64;  // libtorch's own limit in its element-wise operations

uint32_t tag_of(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }
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
  if (2 * count > slots_.size()) make_slots(2 * count);
}

bool NameIndex::add(std::string name) {
  MOEKIT_CHECK(names_.size() < std::numeric_limits<uint32_t>::max(), "more than 2^32 - 1 tensors");
  if (2 * names_.size() >= slots_.size()) make_slots(4 * (names_.size() + 1));
  const uint64_t hash = std::hash<std::string_view>{}(name);
  Slot& slot = slots_[slot_of(name, hash)];
  if (slot.entry != 0) return false;
  names_.push_back(std::move(name));
  slot = {tag_of(hash), static_cast<uint32_t>(names_.size())};
  return true;
}

std::optional<size_t> NameIndex::find(std::string_view name) const {
  if (slots_.empty()) return std::nullopt;
  const Slot slot = slots_[slot_of(name, std::hash<std::string_view>{}(name))];
  if (slot.entry == 0) return std::nullopt;
  return slot.entry - 1;
}

size_t NameIndex::slot_of(std::string_view name, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t at = hash & mask;
  while (slots_[at].entry != 0 &&
         (slots_[at].tag != tag_of(hash) || names_[slots_[at].entry - 1] != name)) {
    at = (at + 1) & mask;
  }
  return at;
}

void NameIndex::make_slots(size_t count) {
  slots_.assign(std::bit_ceil(count), {});  // a power of two, at most half of it in use
  for (size_t i = 0; i < names_.size(); ++i) {
    const uint64_t hash = std::hash<std::string_view>{}(names_[i]);
    slots_[slot_of(names_[i], hash)] = {tag_of(hash), static_cast<uint32_t>(i + 1)};
  }
}

size_t NameIndex::position(std::string_view name, std::string_view where) const {
  const auto found = find(name);
  MOEKIT_CHECK_FORMAT(found, where, ": no tensor is named \"", name, "\"");
  return *found;
}

}  // namespace moekit::checkpoint
