#include "moekit/data/sets/rotated.h"

#include <gtest/gtest.h>

namespace moekit::data {
namespace {

TEST(RotationTask, PairsEveryImageWithItsRotation) {
  ImageDataset source;
  source.name = "s";
  // A bright bar across the middle.
  auto images = torch::zeros({2, 3, 32, 32}, torch::kUInt8);
  images.slice(2, 14, 18).fill_(200);
  source.train = {images, torch::tensor({3, 7}), {}};
  source.test = source.train;
  source.normalization = {{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}};
  const auto task = make_rotation_task(source);
  EXPECT_TRUE(torch::equal(task.test.labels, torch::tensor({0, 1, 0, 1})));
  EXPECT_TRUE(torch::equal(task.test.clusters, torch::tensor({3, 3, 7, 7})));
  EXPECT_EQ(task.test.images.sizes().vec(), (std::vector<int64_t>{4, 3, 32, 32}));
  const auto straight = task.test.images[0][0].to(torch::kFloat32);
  const auto turned = task.test.images[1][0].to(torch::kFloat32);
  EXPECT_GT(straight[15][2].item<float>(), 150);  // the bar reaches the left edge,
  EXPECT_LT(turned[15][2].item<float>(), 50);     // turned it does not;
  EXPECT_GT(turned[15][15].item<float>(), 150);   // it still passes the middle,
  // and at column 2 lies 13.5 * tan 30 = 7.8 rows off.
  const float below = turned[23][2].item<float>();
  const float above = turned[8][2].item<float>();
  EXPECT_GT(std::max(below, above), 150);
  EXPECT_LT(std::min(below, above), 50);
  // Only training images are blurred.
  EXPECT_FALSE(torch::equal(task.train.images[0], task.test.images[0]));
}

TEST(RotationTask, TakesTheNearestPixelWhereItIsAskedTo) {
  ImageDataset source;
  source.name = "s";
  auto images = torch::zeros({1, 3, 32, 32}, torch::kUInt8);
  images.slice(2, 14, 18).fill_(200);
  source.train = {images, torch::tensor({3}), {}};
  source.test = source.train;
  source.normalization = {{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}};
  const auto smooth = make_rotation_task(source).test.images[1];
  const auto nearest = make_rotation_task(source, true).test.images[1];
  EXPECT_FALSE(torch::equal(smooth, nearest));
  // Values between dark and bright come of the resizing alone: fewer than with both.
  const auto between = [](const torch::Tensor& image) {
    return image.gt(20).logical_and(image.lt(180)).sum().item<int64_t>();
  };
  EXPECT_LT(between(nearest), between(smooth));
  EXPECT_GT(nearest[0][15][15].item<int64_t>(), 150);
}

}  // namespace
}  // namespace moekit::data
