#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "moekit/checkpoint/safetensors.h"

namespace moekit::checkpoint {

/// Several safetensors files of one folder with an index "model.safetensors.index.json":
/// `{"metadata": {...}, "weight_map": {"<tensor>": "<file>", ...}}`. Opening reads the index and
/// sees that the files are there; a file is opened when a tensor in it is first asked for, and then
/// must hold exactly the tensors that the index puts into it. Tensors read are those of
/// `MappedTensors`.
class ShardedTensors : public TensorSource {
 public:
  /// @throws IoError, or FormatError naming path and key: an index that is no JSON, a tensor in it
  ///         twice, a file that is missing or whose name leaves the folder.
  explicit ShardedTensors(const std::filesystem::path& index);

  const std::string& where() const override { return where_; }
  /// In the order of the index.
  const std::vector<std::string>& names() const override { return index_.names(); }
  bool contains(std::string_view name) const override { return index_.find(name).has_value(); }
  /// @throws FormatError also when the tensor's file is not what the index says.
  const TensorInfo& info(std::string_view name) const override;
  /// Of the index; values that are no strings as JSON text, objects and arrays left out.
  const Metadata& metadata() const override { return metadata_; }
  /// @throws as `info`
  torch::Tensor read_codes(std::string_view name) const override;

 private:
  struct Shard {
    std::filesystem::path path;
    std::vector<size_t> tensors;              ///< positions of its names
    std::unique_ptr<MappedTensors> contents;  ///< null until needed
  };
  class IndexReader;
  const MappedTensors& shard_of(std::string_view name) const;
  void check_shard(const Shard& shard, const MappedTensors& contents) const;

  std::string where_;
  NameIndex index_;
  std::vector<size_t> shard_of_;  ///< by position of the name
  Metadata metadata_;
  mutable std::mutex opening_;
  mutable std::vector<Shard> shards_;
};

/// Opens a safetensors file, an index of shards (a file that ends in ".json"), or a folder with
/// "model.safetensors" or "model.safetensors.index.json", in this order.
/// @throws as `MappedTensors` and `ShardedTensors`; IoError for a folder that has neither.
std::unique_ptr<TensorSource> open_tensors(const std::filesystem::path& path);

}  // namespace moekit::checkpoint
