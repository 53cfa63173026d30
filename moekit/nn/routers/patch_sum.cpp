#include "moekit/nn/routers/patch_sum.h"

#include "moekit/core/error.h"

namespace moekit::nn {

torch::Tensor PatchSumImpl::forward(const torch::Tensor& images) {
  if (patch_size_ == 0) return images.sum(2).flatten(1);
  const int64_t s = patch_size_;
  MOEKIT_CHECK(images.dim() == 4 && images.size(2) % s == 0 && images.size(3) % s == 0,
               "PatchSum: images must be [N, C, H, W] with H and W multiples of ", s, "; got ",
               images.sizes());
  const auto tiles =
      images.unflatten(3, {images.size(3) / s, s}).unflatten(2, {images.size(2) / s, s});
  return tiles.sum({2, 4}).flatten(1);
}

}  // namespace moekit::nn
