#pragma once

#include <string>

#include "moekit/published/inventory.h"

namespace moekit::published {

/// An architecture's weights out of its files, in float32: bfloat16 and float16 widened, FP8 times
/// its blocks' scales, MXFP4 codes times theirs.
class WeightReader {
 public:
  /// Keeps both. @throws FormatError, IoError of the files
  WeightReader(const Architecture& architecture, const checkpoint::TensorSource& tensors);

  /// @param prefix  of the layer, or empty
  /// @return of the tensor's shape; of blocks of MXFP4 [..., 32 for each block]
  /// @throws FormatError for a tensor that is not there, has another shape, or is not finite
  torch::Tensor read(const std::string& prefix, const NamedShape& tensor) const;
  size_t storage() const { return layout_.storage; }

 private:
  torch::Tensor read_mxfp4(const std::string& name, const NamedShape& tensor) const;

  const Architecture& architecture_;
  const checkpoint::TensorSource& tensors_;
  FileLayout layout_;
};

}  // namespace moekit::published
