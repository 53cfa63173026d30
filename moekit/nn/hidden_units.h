#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace moekit::nn {

/// Where the units of a hidden layer lie in one tensor of an expert.
struct UnitAxis {
  std::string tensor;    ///< name, as in `expert_tensors`
  int64_t dim = 0;       ///< of that tensor, without the dimension of the experts
  int64_t first = 0;     ///< where along `dim` the first unit begins
  int64_t per_unit = 1;  ///< entries of one unit, one after the other (pixels of a channel)
};

/// Units of one hidden layer of an expert that may change places: exchanging two of them in all
/// these tensors at once leaves the expert's values as they are (its features change places).
struct HiddenUnits {
  int64_t count = 0;
  std::vector<UnitAxis> axes;
};

/// The tensors of an expert that is a product of two matrices: down (up x + up_bias) + down_bias.
struct MatrixPair {
  std::string up, down;            ///< [r, D] and [O, r], names as in `expert_tensors`
  std::string up_bias, down_bias;  ///< [r] and [O]; both empty where there are none
};

}  // namespace moekit::nn
