#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace moekit::data {

/// A change of images that makes another domain of the same classes out of them.
struct Transform {
  std::string_view name;
  std::string_view doc;
  /// @param images [N, C, H, W] uint8 @param seed of its random choices @return the same size
  torch::Tensor (*apply)(const torch::Tensor& images, uint64_t seed);
};

/// The table of transforms.
const std::vector<Transform>& transforms();

/// The row of a name. @throws ArgumentError listing the known names
const Transform& find_transform(std::string_view name);

}  // namespace moekit::data
