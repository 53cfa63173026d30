#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "moekit/data/sets/rotated.h"

namespace moekit::data {
namespace {

constexpr int kRotatedSide = 16;
using Picture = std::vector<std::vector<double>>;  // [row][column]

Picture empty_picture() { return Picture(kRotatedSide, std::vector<double>(kRotatedSide, 0)); }

Picture picture_of(const torch::Tensor& image) {
  auto out = empty_picture();
  for (int i = 0; i < kRotatedSide; ++i) {
    for (int k = 0; k < kRotatedSide; ++k) out[i][k] = image[i][k].item<double>();
  }
  return out;
}

/// The middle three quarters, as large as the whole, between neighbours; the border is repeated.
Picture plain_crop(const Picture& from) {
  const int kept = 12;
  const int margin = 2;
  auto out = empty_picture();
  for (int i = 0; i < kRotatedSide; ++i) {
    for (int k = 0; k < kRotatedSide; ++k) {
      const double y = std::max(0.0, (i + 0.5) * kept / kRotatedSide - 0.5);
      const double x = std::max(0.0, (k + 0.5) * kept / kRotatedSide - 0.5);
      const int row = static_cast<int>(y);
      const int column = static_cast<int>(x);
      const int below = std::min(row + 1, kept - 1);
      const int right = std::min(column + 1, kept - 1);
      const auto at = [&](int r, int c) { return from[margin + r][margin + c]; };
      out[i][k] =
          (1 - (y - row)) * ((1 - (x - column)) * at(row, column) + (x - column) * at(row, right)) +
          (y - row) * ((1 - (x - column)) * at(below, column) + (x - column) * at(below, right));
    }
  }
  return out;
}

/// Turned by 30 degrees about the middle, zeros outside.
Picture plain_rotation(const Picture& from, bool nearest) {
  const double cosine = std::sqrt(3) / 2;
  const double sine = 0.5;
  const double middle = (kRotatedSide - 1) / 2.0;
  const auto at = [&](int r, int c) {
    const bool inside = r >= 0 && c >= 0 && r < kRotatedSide && c < kRotatedSide;
    return inside ? from[r][c] : 0.0;
  };
  auto out = empty_picture();
  for (int i = 0; i < kRotatedSide; ++i) {
    for (int k = 0; k < kRotatedSide; ++k) {
      const double x = cosine * (k - middle) - sine * (i - middle) + middle;
      const double y = sine * (k - middle) + cosine * (i - middle) + middle;
      const int row = static_cast<int>(std::floor(y));
      const int column = static_cast<int>(std::floor(x));
      if (nearest) {
        out[i][k] = at(static_cast<int>(std::lround(y)), static_cast<int>(std::lround(x)));
      } else {
        out[i][k] =
            (1 - (y - row)) *
                ((1 - (x - column)) * at(row, column) + (x - column) * at(row, column + 1)) +
            (y - row) *
                ((1 - (x - column)) * at(row + 1, column) + (x - column) * at(row + 1, column + 1));
      }
    }
  }
  return out;
}

/// Gaussian of deviation 1.65 over 7 rows and 3 columns; the border is a mirror.
Picture plain_blur(const Picture& from) {
  const auto mirrored = [](int at) {
    if (at < 0) return -at;
    return at < kRotatedSide ? at : 2 * (kRotatedSide - 1) - at;
  };
  auto out = empty_picture();
  for (int i = 0; i < kRotatedSide; ++i) {
    for (int k = 0; k < kRotatedSide; ++k) {
      double sum = 0;
      double weights = 0;
      for (int di = -3; di <= 3; ++di) {
        for (int dk = -1; dk <= 1; ++dk) {
          const double weight = std::exp(-(di * di + dk * dk) / (2 * 1.65 * 1.65));
          weights += weight;
          sum += weight * from[mirrored(i + di)][mirrored(k + dk)];
        }
      }
      out[i][k] = sum / weights;
    }
  }
  return out;
}

ImageDataset random_photographs(int64_t count) {
  ImageDataset source;
  source.name = "photographs";
  source.source = "a folder";
  torch::manual_seed(4);
  // Smooth enough that a pixel is no accident.
  source.train = {torch::randint(0, 256, {count, 2, kRotatedSide, kRotatedSide}).to(torch::kUInt8),
                  torch::arange(count).remainder(5),
                  {}};
  source.test = {torch::randint(0, 256, {3, 2, kRotatedSide, kRotatedSide}).to(torch::kUInt8),
                 torch::tensor({4, 2, 0}),
                 {}};
  source.normalization = {{0.1, 0.2}, {0.3, 0.4}};
  return source;
}

/// All pixels but a few, whose place lies between two, are at most one apart.
void expect_picture(const torch::Tensor& image, const Picture& wanted, int64_t few) {
  int64_t apart = 0;
  for (int i = 0; i < kRotatedSide; ++i) {
    for (int k = 0; k < kRotatedSide; ++k) {
      apart += std::abs(image[i][k].item<double>() - wanted[i][k]) > 1;
    }
  }
  EXPECT_LE(apart, few);
}

TEST(RotationReference, IsThatOfPlainLoops) {
  const auto source = random_photographs(4);
  for (const bool nearest : {false, true}) {
    const auto task = make_rotation_task(source, nearest);
    for (int64_t n = 0; n < 3; ++n) {
      for (int64_t c = 0; c < 2; ++c) {
        const auto test = picture_of(source.test.images[n][c]);
        expect_picture(task.test.images[2 * n][c], plain_crop(test), 0);
        expect_picture(task.test.images[2 * n + 1][c], plain_crop(plain_rotation(test, nearest)),
                       0);
        const auto train = picture_of(source.train.images[n][c]);
        expect_picture(task.train.images[2 * n][c], plain_blur(plain_crop(train)), 0);
        expect_picture(task.train.images[2 * n + 1][c],
                       plain_blur(plain_crop(plain_rotation(train, nearest))), 0);
      }
    }
  }
}

TEST(RotationReference, TellsWhatItIsAndTakesManyImages) {
  const auto source = random_photographs(1003);  // more than are turned at a time
  const auto task = make_rotation_task(source);
  EXPECT_EQ(task.name, "photographs-rotate");
  EXPECT_EQ(task.source, "a folder");
  EXPECT_EQ(task.class_names, (std::vector<std::string>{"as it is", "rotated"}));
  EXPECT_EQ(task.normalization.mean, source.normalization.mean);
  EXPECT_EQ(task.normalization.std_dev, source.normalization.std_dev);
  ASSERT_EQ(task.train.images.size(0), 2006);
  EXPECT_TRUE(torch::equal(task.train.clusters, source.train.labels.repeat_interleave(2)));
  EXPECT_TRUE(torch::equal(task.train.labels, torch::arange(2006).remainder(2)));
  EXPECT_TRUE(torch::equal(task.test.labels, torch::tensor({0, 1, 0, 1, 0, 1})));
  auto last = source;
  last.train = source.train.slice(1000, 1003);
  EXPECT_TRUE(
      torch::equal(make_rotation_task(last).train.images, task.train.images.slice(0, 2000, 2006)));
}

}  // namespace
}  // namespace moekit::data
