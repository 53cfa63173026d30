#include "moekit/data/transforms.h"

#include <torch/torch.h>

#include "moekit/core/kinds.h"
#include "moekit/tensor/generator.h"

namespace moekit::data {
namespace {

constexpr double kNoise = 0.3 * 255;   // standard deviation
constexpr int64_t kShift = 6;          // pixels, down and to the right
constexpr int64_t kBinaryLevel = 128;  // white from here on

torch::Tensor identity(const torch::Tensor& images, uint64_t) { return images; }

torch::Tensor invert(const torch::Tensor& images, uint64_t) { return 255 - images; }

torch::Tensor rotate90(const torch::Tensor& images, uint64_t) {
  return torch::rot90(images, 1, {2, 3}).contiguous();
}

torch::Tensor flip(const torch::Tensor& images, uint64_t) { return images.flip({2}).contiguous(); }

torch::Tensor noise(const torch::Tensor& images, uint64_t seed) {
  const auto drawn = torch::empty(images.sizes(), torch::kFloat32)
                         .normal_(0, kNoise, tensor::make_generator(seed));
  return (images.to(torch::kFloat32) + drawn).round_().clamp_(0, 255).to(torch::kUInt8);
}

torch::Tensor shift(const torch::Tensor& images, uint64_t) {
  const int64_t height = images.size(2) - kShift;
  const int64_t width = images.size(3) - kShift;
  auto out = torch::zeros_like(images);
  if (height > 0 && width > 0) {
    out.slice(2, kShift).slice(3, kShift).copy_(images.slice(2, 0, height).slice(3, 0, width));
  }
  return out;
}

torch::Tensor binarise(const torch::Tensor& images, uint64_t) {
  return (images >= kBinaryLevel).to(torch::kUInt8) * 255;
}

}  // namespace

const std::vector<Transform>& transforms() {
  static const std::vector<Transform> kRows = {
      {"identity", "as they are", &identity},
      {"invert", "black for white", &invert},
      {"rotate90", "by 90 degrees, to the left", &rotate90},
      {"flip", "upside down", &flip},
      {"noise", "Gaussian noise of 0.3 of the range on every pixel", &noise},
      {"shift", "6 pixels down and to the right, black behind", &shift},
      {"binarise", "pixels from 128 on white, the others black", &binarise},
  };
  return kRows;
}

const Transform& find_transform(std::string_view name) {
  return find_kind(transforms(), name, "transform");
}

}  // namespace moekit::data
