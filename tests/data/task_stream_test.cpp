#include "moekit/data/task_stream.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/data/datasets.h"
#include "moekit/data/transforms.h"

namespace moekit::data {
namespace {

torch::Tensor apply(const char* name, const torch::Tensor& images, uint64_t seed = 1) {
  return find_transform(name).apply(images, seed);
}

/// Two images of 8 x 8 with every pixel another.
torch::Tensor two_images() {
  return torch::arange(128, torch::kLong).mul(2).to(torch::kUInt8).view({2, 1, 8, 8});
}

TEST(Transforms, MovePixelsToWhereTheySay) {
  const auto x = two_images();
  EXPECT_TRUE(apply("identity", x).equal(x));
  EXPECT_EQ(apply("invert", x)[1][0][2][3].item<int>(), 255 - x[1][0][2][3].item<int>());
  EXPECT_TRUE(apply("flip", x)[0][0][0].equal(x[0][0][7]));
  // To the left: what was the last column is the first row.
  EXPECT_TRUE(apply("rotate90", x)[0][0][0].equal(x[0][0].select(1, 7)));
  const auto shifted = apply("shift", x);
  EXPECT_TRUE(shifted[1][0].slice(0, 6).slice(1, 6).equal(x[1][0].slice(0, 0, 2).slice(1, 0, 2)));
  EXPECT_EQ(shifted[1][0].slice(0, 0, 6).sum().item<int64_t>(), 0);
  EXPECT_EQ(shifted[1][0].slice(1, 0, 6).sum().item<int64_t>(), 0);
  const auto black_or_white = apply("binarise", x);
  EXPECT_EQ(black_or_white[0][0][7][7].item<int>(), 0);    // 126
  EXPECT_EQ(black_or_white[1][0][0][0].item<int>(), 255);  // 128
}

TEST(Transforms, NoiseHasItsSizeAndItsSeed) {
  const auto grey = torch::full({4, 1, 100, 100}, 128, torch::kUInt8);
  const auto noisy = apply("noise", grey);
  EXPECT_TRUE(noisy.equal(apply("noise", grey)));
  EXPECT_FALSE(noisy.equal(apply("noise", grey, 2)));
  const auto moved = noisy.to(torch::kFloat64) - 128;
  EXPECT_NEAR(moved.mean().item<double>(), 0, 1.5);
  // Clipped at 0 and 255, 1.67 deviations away: a Gaussian of 76.5 loses a tenth of its spread.
  EXPECT_NEAR(moved.std().item<double>(), 69, 2);
}

TEST(Transforms, EachKeepsSizeAndType) {
  const auto x = two_images();
  for (const auto& transform : transforms()) {
    const auto changed = transform.apply(x, 1);
    EXPECT_EQ(changed.sizes(), x.sizes()) << transform.name;
    EXPECT_EQ(changed.scalar_type(), torch::kUInt8) << transform.name;
  }
  EXPECT_THROW(find_transform("upside"), ArgumentError);
  // Smaller than the shift: nothing is left to be seen.
  EXPECT_EQ(apply("shift", two_images().slice(2, 0, 4)).sum().item<int64_t>(), 0);
}

TEST(TaskStream, ChangesTheImagesOfBothPartsAndKeepsTheLabels) {
  StreamOptions options;
  options.tasks = {"fashion-mnist", "fashion-mnist/invert"};
  options.train_limit = 50;
  options.test_limit = 20;
  const auto stream = load_stream(options, 1, "");
  ASSERT_EQ(stream.tasks.size(), 2U);
  const auto& plain = stream.tasks[0];
  const auto& inverted = stream.tasks[1];
  EXPECT_EQ(plain.train.size(), 50);
  EXPECT_EQ(plain.test.size(), 20);
  EXPECT_TRUE((255 - plain.train.images).equal(inverted.train.images));
  EXPECT_TRUE((255 - plain.test.images).equal(inverted.test.images));
  EXPECT_TRUE(plain.train.labels.equal(inverted.train.labels));
  const auto set = load_images("fashion-mnist");
  EXPECT_TRUE(plain.train.images.equal(set->train.images.slice(0, 0, 50)));
  EXPECT_EQ(stream.checksum, stream_checksum(options.tasks, ""));
  EXPECT_FALSE(stream.checksum.empty());
}

TEST(TaskStream, TakesAFewOfEachClassAndOtherSizes) {
  StreamOptions options;
  options.tasks = {"fashion-mnist/flip"};
  options.per_class = 3;
  options.side = 14;
  options.test_limit = 5;
  const auto task = load_stream(options, 7, "").tasks[0];
  EXPECT_EQ(task.train.size(), 30);
  EXPECT_EQ(task.train.images.size(2), 14);
  for (int64_t c = 0; c < 10; ++c) EXPECT_EQ(task.train.labels.eq(c).sum().item<int64_t>(), 3);
  EXPECT_FALSE(task.train.images.equal(load_stream(options, 8, "").tasks[0].train.images));
}

TEST(TaskStream, RefusesWhatIsNoTask) {
  EXPECT_EQ(parse_task("mnist/shift").set, "mnist");
  EXPECT_EQ(parse_task("mnist").transform, "identity");
  EXPECT_THROW(parse_task("nist"), ArgumentError);
  EXPECT_THROW(parse_task("mnist/"), ArgumentError);
  StreamOptions options;
  options.tasks = {"cluster-patch"};
  EXPECT_THROW(load_stream(options, 1, ""), ArgumentError);
}

}  // namespace
}  // namespace moekit::data
