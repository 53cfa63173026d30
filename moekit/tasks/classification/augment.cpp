#include "moekit/tasks/classification/augment.h"

#include "moekit/core/error.h"
#include "moekit/tensor/generator.h"

namespace moekit::classification {
namespace {
constexpr int64_t kPad = 4;

/// Pixel positions 0..size-1 shifted by `shift` [N] and reflected into the image, [N, size].
torch::Tensor reflected(const torch::Tensor& shift, int64_t size) {
  auto at = (torch::arange(size, torch::kLong).unsqueeze(0) + shift.unsqueeze(1)).abs();
  const int64_t last = size - 1;
  return last - (last - at).abs();
}

}  // namespace

torch::Tensor flip_and_crop(const torch::Tensor& images, uint64_t seed) {
  MOEKIT_CHECK(images.dim() == 4 && images.size(2) > kPad && images.size(3) > kPad,
               "flip_and_crop: images must be [N, C, H > 4, W > 4]; got ", images.sizes());
  const int64_t n = images.size(0);
  const auto generator = tensor::make_generator(seed);
  const auto draw = [&](int64_t low, int64_t high) {
    return torch::randint(low, high, {n}, generator, torch::kLong);
  };
  const auto rows = reflected(draw(-kPad, kPad + 1), images.size(2));
  auto columns = reflected(draw(-kPad, kPad + 1), images.size(3));
  const auto flip = draw(0, 2).to(torch::kBool).unsqueeze(1);
  columns = torch::where(flip, columns.flip(1), columns);
  const auto by_row =
      images.gather(2, rows.reshape({n, 1, -1, 1}).expand({n, images.size(1), -1, images.size(3)}));
  return by_row.gather(
      3, columns.reshape({n, 1, 1, -1}).expand({n, images.size(1), images.size(2), -1}));
}

}  // namespace moekit::classification
