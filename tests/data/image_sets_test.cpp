#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/checksum.h"
#include "moekit/data/image_dataset.h"
#include "tests/support/refusal.h"

namespace moekit::data {
namespace {

/// Five images of two channels, 3 x 4, every pixel another.
ImageSet five_images() {
  return {torch::arange(120).to(torch::kUInt8).view({5, 2, 3, 4}), torch::tensor({2, 0, 1, 1, 2}),
          torch::tensor({4, 3, 2, 1, 0})};
}

std::string bytes_of(const torch::Tensor& tensor) {
  const auto whole = tensor.contiguous();
  return {static_cast<const char*>(whole.data_ptr()), whole.nbytes()};
}

TEST(ImageSets, SelectTakesRowsInOrderOfAllThatIsThere) {
  const auto set = five_images();
  const auto some = set.select(torch::tensor({3, 0, 3}));
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t from = std::vector<int64_t>{3, 0, 3}[static_cast<size_t>(i)];
    EXPECT_TRUE(torch::equal(some.images[i], set.images[from]));
    EXPECT_TRUE(torch::equal(some.labels[i], set.labels[from]));
    EXPECT_TRUE(torch::equal(some.clusters[i], set.clusters[from]));
  }
  EXPECT_EQ(some.size(), 3);
  EXPECT_FALSE(
      (ImageSet{set.images, set.labels, {}}.select(torch::tensor({1})).clusters.defined()));
}

TEST(ImageSets, SliceGivesRowsWithinTheSet) {
  const auto set = five_images();
  const auto part = set.slice(1, 4);
  EXPECT_TRUE(torch::equal(part.images, set.images.slice(0, 1, 4)));
  EXPECT_TRUE(torch::equal(part.labels, torch::tensor({0, 1, 1})));
  EXPECT_TRUE(torch::equal(part.clusters, torch::tensor({3, 2, 1})));
  EXPECT_FALSE((ImageSet{set.images, set.labels, {}}.slice(0, 2).clusters.defined()));
  EXPECT_EQ(set.slice(0, 5).size(), 5);
  EXPECT_EQ(set.slice(5, 5).size(), 0);
  EXPECT_EQ(set.slice(0, 0).size(), 0);
  EXPECT_EQ(ImageSet{}.size(), 0);
  EXPECT_EQ(moekit::refusal([&] { set.slice(-1, 2); }), "ImageSet: rows -1..2 of 5");
  EXPECT_EQ(moekit::refusal([&] { set.slice(3, 2); }), "ImageSet: rows 3..2 of 5");
  EXPECT_EQ(moekit::refusal([&] { set.slice(3, 6); }), "ImageSet: rows 3..6 of 5");
}

TEST(ImageSets, TheChecksumIsOfTypesShapesAndContentOfBothParts) {
  ImageDataset set;
  set.train = five_images();
  set.test = {torch::full({1, 1, 1, 2}, 0.5), torch::tensor({1}), {}};
  const auto told = [](const torch::Tensor& tensor) {
    return concat(tensor.dtype().name(), tensor.sizes()) + bytes_of(tensor);
  };
  EXPECT_EQ(checksum(set), sha256(told(set.train.images) + told(set.train.labels) +
                                  told(set.test.images) + told(set.test.labels)));
  const auto before = checksum(set);
  // The same content with the columns before the rows in memory.
  set.train.images = set.train.images.transpose(2, 3).contiguous().transpose(2, 3);
  EXPECT_EQ(checksum(set), before);
}

TEST(ImageSets, NormalizeTakesMeanAndDeviationOfEachChannel) {
  const Normalization normalization{{0.25, 0.5}, {0.5, 0.125}};
  const auto bytes = five_images().images;
  const auto numbers = torch::arange(120, torch::kFloat64).view({5, 2, 3, 4}) / 7;
  const auto from_bytes = normalize(bytes, normalization);
  const auto from_numbers = normalize(numbers, normalization);
  ASSERT_EQ(from_bytes.sizes(), bytes.sizes());
  EXPECT_EQ(from_bytes.scalar_type(), torch::kFloat32);
  EXPECT_EQ(from_numbers.scalar_type(), torch::kFloat32);
  for (int64_t n = 0; n < 5; ++n) {
    for (int64_t c = 0; c < 2; ++c) {
      const double mean = c == 0 ? 0.25 : 0.5;
      const double deviation = c == 0 ? 0.5 : 0.125;
      const auto want = (numbers[n][c] - mean) / deviation;
      EXPECT_TRUE(torch::allclose(from_numbers[n][c].to(torch::kFloat64), want, 1e-5, 1e-5));
      const auto of_bytes = (bytes[n][c].to(torch::kFloat64) / 255 - mean) / deviation;
      EXPECT_TRUE(torch::allclose(from_bytes[n][c].to(torch::kFloat64), of_bytes, 1e-5, 1e-5));
    }
  }
  EXPECT_EQ(normalize(bytes.slice(0, 0, 0), normalization).size(0), 0);
  EXPECT_EQ(moekit::refusal([&] { normalize(bytes[0], normalization); }),
            "normalize: images must be [N, 2, H, W]; got [2, 3, 4]");
  EXPECT_EQ(moekit::refusal([&] {
              normalize(bytes, {{0.5}, {1}});
            }),
            "normalize: images must be [N, 1, H, W]; got [5, 2, 3, 4]");
}

TEST(ImageSets, NormalizeGivesNumbersBackThatItWouldNotChange) {
  const auto numbers = torch::arange(12, torch::kFloat32).view({1, 2, 2, 3});
  EXPECT_TRUE(normalize(numbers, {{0, 0}, {1, 1}}).is_same(numbers));
  // One factor, or one offset, of one channel is enough to change them.
  EXPECT_TRUE(torch::equal(normalize(numbers, {{0, 0}, {1, 0.5}}),
                           torch::stack({numbers[0][0], numbers[0][1] * 2}).unsqueeze(0)));
  EXPECT_TRUE(torch::equal(normalize(numbers, {{0, 3}, {1, 1}}),
                           torch::stack({numbers[0][0], numbers[0][1] - 3}).unsqueeze(0)));
  EXPECT_TRUE(torch::equal(numbers.flatten(), torch::arange(12, torch::kFloat32)));
  // Bytes become numbers also where they keep their values.
  const auto bytes = five_images().images;
  const auto same = normalize(bytes, {{0, 0}, {1 / 255.0, 1 / 255.0}});
  EXPECT_EQ(same.scalar_type(), torch::kFloat32);
  EXPECT_TRUE(torch::equal(same, bytes.to(torch::kFloat32)));
}

TEST(ImageSets, OnlyKnownClustersAreDescribed) {
  ImageDataset set;
  set.train = {torch::zeros({2, 3, 4, 5}), torch::tensor({0, 0}), {}};
  set.test = {torch::zeros({1, 3, 4, 5}), torch::tensor({0}), {}};
  set.class_names = {"all"};
  set.normalization = {{0, 0, 0}, {1, 1, 1}};
  const Json told = set.describe();
  EXPECT_FALSE(told.contains("true_clusters"));
  EXPECT_EQ(told.at("summary").dump(), "\"2 training and 1 test images of 4x5, 3 channel(s)\"");
  EXPECT_EQ(set.kind(), "images");
}

TEST(ImageSets, AreMadeOfImagesAndLabelsThatGoTogether) {
  const auto images = torch::zeros({3, 1, 2, 2}, torch::kUInt8);
  const auto made = make_image_set(images, torch::tensor({3, 0, 2}).to(torch::kUInt8), 4, "f");
  EXPECT_EQ(made.labels.scalar_type(), torch::kLong);
  EXPECT_TRUE(torch::equal(made.labels, torch::tensor({3, 0, 2})));
  EXPECT_TRUE(made.images.is_same(images));
  EXPECT_FALSE(made.clusters.defined());
  EXPECT_EQ(make_image_set(images.slice(0, 0, 0), torch::empty({0}), 4, "f").size(), 0);
  const auto told = [](const torch::Tensor& pixels, const torch::Tensor& labels) {
    return moekit::refusal([&] { make_image_set(pixels, labels, 4, "f"); });
  };
  EXPECT_EQ(told(images[0], torch::tensor({0})),
            "f: images must be [N, C, H, W] and labels [N]; got [1, 2, 2] and [1]");
  EXPECT_EQ(told(images, torch::tensor({{0, 1, 1}})),
            "f: images must be [N, C, H, W] and labels [N]; got [3, 1, 2, 2] and [1, 3]");
  EXPECT_EQ(told(images, torch::tensor({0, 1, 1, 1})), "f: 3 images but 4 labels");
  EXPECT_EQ(told(images, torch::tensor({0, 1})), "f: 3 images but 2 labels");
}

TEST(ImageSets, GeneratedOnesHaveSamplesInBothPartsAndFitIntoTheMemory) {
  const auto told = [](int64_t num_train, int64_t num_test) {
    return moekit::refusal([&] { check_generated_size("o", num_train, num_test, {3, 5}, 7); });
  };
  EXPECT_EQ(told(1, 1), "nothing was thrown");
  EXPECT_EQ(told(0, 1), "o.num_train and num_test must be at least 1; got 0 and 1");
  EXPECT_EQ(told(1, 0), "o.num_train and num_test must be at least 1; got 1 and 0");
  const std::string size = "[1000000000000, 3, 5] of 7 byte(s) take ";
  EXPECT_EQ(told(1'000'000'000'000, 2).substr(0, 29 + size.size()),
            "o.num_train = 1000000000000: " + size);
  EXPECT_EQ(told(2, 1'000'000'000'000).substr(0, 28 + size.size()),
            "o.num_test = 1000000000000: " + size);
}

TEST(ImageSets, EveryClassIsAskedFor) {
  const ImageSet set{torch::zeros({3, 1, 1, 1}), torch::tensor({0, 2, 0}), {}};
  EXPECT_EQ(moekit::refusal([&] { check_classes(set, {"a"}, "f"); }), "nothing was thrown");
  EXPECT_EQ(moekit::refusal([&] {
              check_classes(set, {"a", "b", "c"}, "f");
            }),
            "f: none of 3 images is of class 1 (b)");
  EXPECT_EQ(moekit::refusal([&] {
              check_classes(set.slice(1, 2), {"a", "b", "c"}, "f");
            }),
            "f: none of 1 images is of class 0 (a)");
}

}  // namespace
}  // namespace moekit::data
