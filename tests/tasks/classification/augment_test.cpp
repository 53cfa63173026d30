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

}  // namespace
}  // namespace moekit::classification
