#include "moekit/tasks/classification/augment.h"

#include <gtest/gtest.h>

#include <set>

#include "moekit/core/error.h"

namespace moekit::classification {
namespace {

TEST(FlipAndCrop, IsAFunctionOfTheSeedAndKeepsThePixelValues) {
  const auto images =
      torch::arange(2 * 3 * 8 * 8).reshape({2, 3, 8, 8}).remainder(251).to(torch::kUInt8);
  const auto changed = flip_and_crop(images, 5);
  EXPECT_TRUE(torch::equal(changed, flip_and_crop(images, 5)));
  EXPECT_FALSE(torch::equal(changed, flip_and_crop(images, 6)));
  EXPECT_EQ(changed.sizes(), images.sizes());
  // Every pixel comes from the same image and channel.
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t c = 0; c < 3; ++c) {
      const auto of = images[n][c].flatten().contiguous();
      const std::set<uint8_t> known(of.data_ptr<uint8_t>(), of.data_ptr<uint8_t>() + of.numel());
      const auto got = changed[n][c].flatten().contiguous();
      for (int64_t p = 0; p < got.numel(); ++p) {
        EXPECT_EQ(known.count(got.data_ptr<uint8_t>()[p]), 1U);
      }
    }
  }
  EXPECT_THROW(flip_and_crop(images.slice(2, 0, 4), 1), ArgumentError);
}

TEST(FlipAndCrop, FlipsHalfOfTheImagesAndShiftsThemEveryWay) {
  // Columns rise from left to right, and rows from top to bottom.
  const auto ramp = torch::arange(16).to(torch::kUInt8);
  const auto columns = ramp.reshape({1, 1, 1, 16}).expand({400, 1, 16, 16}).contiguous();
  const auto rows = ramp.reshape({1, 1, 16, 1}).expand({400, 1, 16, 16}).contiguous();
  // Inside the margin that a shift can reflect, the order is that of the image, or of its mirror.
  const auto step = [](const torch::Tensor& line) {
    return line[9].item<int64_t>() - line[8].item<int64_t>();
  };
  std::set<int64_t> down;
  std::set<int64_t> along;
  int64_t flipped = 0;
  const auto by_column = flip_and_crop(columns, 3);
  const auto by_row = flip_and_crop(rows, 3);
  for (int64_t n = 0; n < 400; ++n) {
    const auto line = by_column[n][0][0];
    ASSERT_EQ(std::abs(step(line)), 1);
    const bool mirrored = step(line) < 0;
    flipped += mirrored ? 1 : 0;
    along.insert(line[8].item<int64_t>() - (mirrored ? 7 : 8));
    EXPECT_EQ(step(by_row[n][0].select(1, 0)), 1);  // never upside down
    down.insert(by_row[n][0][8][0].item<int64_t>() - 8);
  }
  EXPECT_GT(flipped, 150);  // of 400, five standard deviations below half
  EXPECT_LT(flipped, 250);
  for (int64_t shift = -4; shift <= 4; ++shift) {
    EXPECT_EQ(down.count(shift), 1U) << shift;
    EXPECT_EQ(along.count(shift), 1U) << shift;
  }
}

}  // namespace
}  // namespace moekit::classification
