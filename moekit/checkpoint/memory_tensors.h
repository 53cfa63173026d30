#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "moekit/checkpoint/tensor_source.h"

namespace moekit::checkpoint {

/// Tensors put together by hand, to be written or loaded:
/// `MemoryTensors{{"weight", w}, {"bias", b}}`. Keeps the tensors themselves, not copies; reading
/// gives them back.
class MemoryTensors : public TensorSource {
 public:
  MemoryTensors() = default;
  MemoryTensors(std::initializer_list<std::pair<std::string, torch::Tensor>> tensors,
                Metadata metadata = {});

  /// @throws ArgumentError when the name is taken or the format has no such dtype.
  void add(std::string name, torch::Tensor tensor);
  void set_metadata(Metadata metadata) { metadata_ = std::move(metadata); }

  const std::string& where() const override { return where_; }
  const std::vector<std::string>& names() const override { return index_.names(); }
  bool contains(std::string_view name) const override { return index_.find(name).has_value(); }
  const TensorInfo& info(std::string_view name) const override;
  const Metadata& metadata() const override { return metadata_; }
  torch::Tensor read_codes(std::string_view name) const override;

 private:
  std::string where_ = "tensors in memory";
  NameIndex index_;
  std::vector<TensorInfo> infos_;
  std::vector<torch::Tensor> tensors_;
  Metadata metadata_;
};

}  // namespace moekit::checkpoint
