#include "moekit/checkpoint/memory_tensors.h"

#include "moekit/core/error.h"

namespace moekit::checkpoint {

MemoryTensors::MemoryTensors(std::initializer_list<std::pair<std::string, torch::Tensor>> tensors,
                             Metadata metadata)
    : metadata_(std::move(metadata)) {
  for (const auto& [name, tensor] : tensors) add(name, tensor);
}

void MemoryTensors::add(std::string name, torch::Tensor tensor) {
  const auto dtype = dtype_of(tensor.scalar_type());
  MOEKIT_CHECK(dtype, where_, ": \"", name, "\" is ", tensor.scalar_type(),
               ", which safetensors files do not hold");
  auto info = make_tensor_info(name, *dtype, tensor.sizes().vec());
  MOEKIT_CHECK(index_.add(std::move(name)), where_, ": two are named \"", info.name, "\"");
  infos_.push_back(std::move(info));
  tensors_.push_back(std::move(tensor));
}

const TensorInfo& MemoryTensors::info(std::string_view name) const {
  return infos_[index_.position(name, where_)];
}

torch::Tensor MemoryTensors::read_codes(std::string_view name) const {
  return tensors_[index_.position(name, where_)];
}

}  // namespace moekit::checkpoint
