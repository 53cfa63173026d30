#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/checkpoint/dtype.h"

namespace moekit::checkpoint {

/// "__metadata__" of a file.
using Metadata = std::map<std::string, std::string>;

struct TensorInfo {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;
  uint64_t bytes;  ///< dtype times shape
};

/// The bytes of a tensor; none when a size is negative, or more than 2^48 bytes or 64 dimensions
/// come out, also with sizes of 0 left aside, so that no stride overflows.
std::optional<uint64_t> tensor_bytes(Dtype dtype, const std::vector<int64_t>& shape);

/// @throws ArgumentError naming the tensor when `tensor_bytes` has no answer.
TensorInfo make_tensor_info(std::string name, Dtype dtype, std::vector<int64_t> shape);

/// Tensors by name, read one at a time. What a source holds is not known to whoever asks, so a
/// tensor that is not there, or not as asked for, is a FormatError naming source and tensor.
/// Look-up takes the same time whatever the number of tensors. Reading from several threads is
/// safe.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  /// Stands before messages: the file's path.
  virtual const std::string& where() const = 0;
  /// In file order.
  virtual const std::vector<std::string>& names() const = 0;
  virtual bool contains(std::string_view name) const = 0;
  virtual const TensorInfo& info(std::string_view name) const = 0;
  virtual const Metadata& metadata() const = 0;

  /// The elements as they are stored, as `code_type` of their dtype. The tensor may share memory
  /// with the source and with other reads of the same name; it stays valid after the source is
  /// gone.
  virtual torch::Tensor read_codes(std::string_view name) const = 0;

  /// As `read_codes`, of the dtypes that libtorch has.
  /// @throws FormatError for the others, too.
  torch::Tensor read(std::string_view name) const;

  /// The elements converted as `decode` does.
  torch::Tensor read(std::string_view name, torch::ScalarType as) const;

 protected:
  TensorSource() = default;
  TensorSource(const TensorSource&) = default;
  TensorSource(TensorSource&&) = default;
  TensorSource& operator=(const TensorSource&) = default;
  TensorSource& operator=(TensorSource&&) = default;
};

/// Names in the order they were added, with their positions: what a source looks names up with.
class NameIndex {
 public:
  void reserve(size_t count);
  /// False, and nothing is added, when the name is there already.
  bool add(std::string name);
  const std::vector<std::string>& names() const { return names_; }
  std::optional<size_t> find(std::string_view name) const;
  /// @throws FormatError with `where` in front when there is no such name.
  size_t position(std::string_view name, std::string_view where) const;

 private:
  struct Slot {
    uint32_t tag = 0;    ///< the hash's upper half: of another name's slot the name is not read
    uint32_t entry = 0;  ///< 1 + position in names_, 0 free
  };
  /// The slot that holds the name, or the free one where it would go.
  size_t slot_of(std::string_view name, uint64_t hash) const;
  void make_slots(size_t count);

  std::vector<std::string> names_;
  /// By the name's hash and, where taken, the next free one. Open, since with a map, a node and a
  /// second copy of every name, files of many tensors open slower.
  std::vector<Slot> slots_;
};

}  // namespace moekit::checkpoint
