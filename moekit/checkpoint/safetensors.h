#pragma once

#include <torch/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "moekit/checkpoint/tensor_source.h"
#include "moekit/core/files.h"

namespace moekit::checkpoint {

/// The header of a safetensors file may have as many bytes: the reference implementation's limit.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;

/// A safetensors file (8-byte little-endian header length, JSON header, raw data), mapped into
/// memory. Opening reads and checks the header only; data is read from the disk when a tensor's
/// elements are touched.
///
/// A tensor read is a view of the mapping and keeps it alive; only where its data does not lie at a
/// multiple of its element size is it a copy. The mapping is private: writing into such a tensor in
/// place is seen by every other view of it, and never reaches the file. For a file cut shorter
/// while it is open see `MappedFile`.
class MappedTensors : public TensorSource {
 public:
  /// @throws IoError, or FormatError naming path and key: a truncated file, a header that is no
  ///         JSON, a name twice, offsets that overlap, leave holes or end outside, sizes that do
  ///         not fit the dtype.
  explicit MappedTensors(const std::filesystem::path& path);

  const std::string& where() const override { return where_; }
  const std::vector<std::string>& names() const override { return index_.names(); }
  bool contains(std::string_view name) const override { return index_.find(name).has_value(); }
  const TensorInfo& info(std::string_view name) const override;
  const Metadata& metadata() const override { return metadata_; }
  torch::Tensor read_codes(std::string_view name) const override;

 private:
  struct Entry {
    TensorInfo info;
    uint64_t begin;  ///< from the start of the data
  };
  class HeaderReader;

  std::string where_;
  std::shared_ptr<MappedFile> file_;
  char* data_ = nullptr;
  NameIndex index_;
  std::vector<Entry> entries_;
  Metadata metadata_;
};

/// Writes a safetensors file tensor by tensor, without holding them all; atomic as `AtomicFile` is.
/// Usage: `SafetensorsWriter out(path, infos); for (...) out.write(name, tensor); out.commit();`
class SafetensorsWriter {
 public:
  /// Writes the header. The file's data starts at a multiple of 8 bytes, tensors follow each other
  /// in the order given.
  /// @throws ArgumentError for two tensors of one name, the name "__metadata__", text that is not
  ///         UTF-8, bytes that do not fit dtype and shape, a header above `kMaxHeaderBytes`.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorInfo> tensors,
                    const Metadata& metadata = {});

  /// The next tensor: of the size announced and of `code_type` of the dtype announced.
  /// @throws ArgumentError for another; IoError.
  void write(std::string_view name, const torch::Tensor& tensor);

  /// @throws ArgumentError when tensors are missing; IoError.
  void commit();

 private:
  std::vector<TensorInfo> tensors_;
  size_t next_ = 0;
  AtomicFile file_;
};

/// Writes all tensors of a source, one at a time, as a `SafetensorsWriter`. The source may be the
/// file that is replaced.
void write_safetensors(const std::filesystem::path& path, const TensorSource& source);

}  // namespace moekit::checkpoint
