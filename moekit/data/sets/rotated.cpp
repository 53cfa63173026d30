#include "moekit/data/sets/rotated.h"

#include <cmath>

namespace moekit::data {

enum class Interpolation { kBilinear, kNearest };

struct RotationOptions {
  Interpolation interpolation = Interpolation::kBilinear;

  template <typename Field>
  void visit(Field&& field) {
    field("interpolation", interpolation, "of rotated images: bilinear, or nearest as released");
  }
};

}  // namespace moekit::data

template <>
struct moekit::EnumNames<moekit::data::Interpolation> {
  static constexpr std::array<std::pair<data::Interpolation, std::string_view>, 2> kTable{{
      {data::Interpolation::kBilinear, "bilinear"},
      {data::Interpolation::kNearest, "nearest"},
  }};
};

namespace moekit::data {
namespace {

constexpr double kDegrees = 30;
constexpr double kBlurSigma = 1.65;
constexpr int64_t kRotateAtOnce = 1000;

torch::Tensor crop_and_resize(const torch::Tensor& images) {
  const int64_t side = images.size(2);
  const int64_t kept = side * 3 / 4;
  const int64_t margin = (side - kept) / 2;
  const auto middle = images.slice(2, margin, margin + kept).slice(3, margin, margin + kept);
  return torch::upsample_bilinear2d(middle, {side, side}, /*align_corners=*/false);
}

torch::Tensor rotate(const torch::Tensor& images, bool nearest) {
  const double angle = kDegrees * M_PI / 180;
  const auto matrix = torch::tensor({{std::cos(angle), -std::sin(angle), 0.0},
                                     {std::sin(angle), std::cos(angle), 0.0}},
                                    torch::kFloat32)
                          .unsqueeze(0)
                          .expand({images.size(0), 2, 3});
  const auto grid = torch::affine_grid_generator(matrix, images.sizes(), /*align_corners=*/false);
  // ATen's numbers of its modes: 0 bilinear, 1 nearest; 0 zeros outside.
  return torch::grid_sampler(images, grid, nearest ? 1 : 0, 0, /*align_corners=*/false);
}

torch::Tensor gauss_taps(int64_t taps) {
  const int64_t middle = taps / 2;
  const auto at = torch::arange(taps, torch::kFloat32) - static_cast<double>(middle);
  const auto weight = torch::exp(-at.square() / (2 * kBlurSigma * kBlurSigma));
  return weight / weight.sum();
}

torch::Tensor blur(const torch::Tensor& images) {
  const int64_t channels = images.size(1);
  const auto kernel = torch::outer(gauss_taps(7), gauss_taps(3))
                          .expand({channels, 1, 7, 3})
                          .contiguous();  // 7 rows, 3 columns
  const auto padded = torch::reflection_pad2d(images, {1, 1, 3, 3});
  return torch::conv2d(padded, kernel, torch::Tensor(), at::IntArrayRef{1, 1},
                       at::IntArrayRef{0, 0}, at::IntArrayRef{1, 1}, channels);
}

ImageSet rotated_set(const ImageSet& set, bool blurred, bool nearest) {
  std::vector<torch::Tensor> parts;
  for (int64_t begin = 0; begin < set.size(); begin += kRotateAtOnce) {
    const auto images =
        set.images.slice(0, begin, std::min(begin + kRotateAtOnce, set.size())).to(torch::kFloat32);
    auto pair =
        torch::stack({crop_and_resize(images), crop_and_resize(rotate(images, nearest))}, 1);
    pair = pair.flatten(0, 1);
    if (blurred) pair = blur(pair);
    parts.push_back(pair.round_().clamp_(0, 255).to(torch::kUInt8));
  }
  const auto label = torch::arange(2, torch::kLong).repeat({set.size()});
  return {torch::cat(parts), label, set.labels.repeat_interleave(2)};
}

std::shared_ptr<Dataset> make_cifar10_rotate(const RotationOptions& options,
                                             const DatasetSite& site) {
  return std::make_shared<ImageDataset>(make_rotation_task(
      *load_images("cifar10", site), options.interpolation == Interpolation::kNearest));
}

}  // namespace

ImageDataset make_rotation_task(const ImageDataset& source, bool nearest) {
  ImageDataset out;
  out.name = source.name + "-rotate";
  out.train = rotated_set(source.train, /*blurred=*/true, nearest);
  out.test = rotated_set(source.test, /*blurred=*/false, nearest);
  out.class_names = {"as it is", "rotated"};
  out.normalization = source.normalization;
  out.source = source.source;
  return out;
}

DatasetRow cifar10_rotate_row() {
  DatasetRow row{kind<&make_cifar10_rotate>(
      "cifar10-rotate",
      "is a CIFAR-10 photograph rotated by 30 degrees? 2 classes, its 10 classes as clusters")};
  row.parts = {"cifar10"};
  return row;
}

}  // namespace moekit::data
