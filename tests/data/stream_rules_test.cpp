#include <gtest/gtest.h>
#include <torch/torch.h>
#include <unistd.h>

#include <random>

#include "moekit/core/checksum.h"
#include "moekit/core/files.h"
#include "moekit/core/random.h"
#include "moekit/data/datasets.h"
#include "moekit/data/sets/synthetic_clusters.h"
#include "moekit/data/task_stream.h"
#include "moekit/data/transforms.h"
#include "moekit/tensor/generator.h"
#include "tests/support/refusal.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

/// Streams of a small cifar100: 300 training and 100 test images of random pixels.
class StreamRulesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-stream-", ::getpid());
    fs::remove_all(folder_);
    create_folders(folder_ / "cifar100");
    std::mt19937 generator(5);
    const auto write = [&](const char* name, int count) {
      std::string bytes;
      for (int n = 0; n < count; ++n) {
        bytes += '\0';
        bytes += static_cast<char>(n * 7 % 100);
        for (int i = 0; i < 3072; ++i) bytes += static_cast<char>(generator());
      }
      write_file_atomic(folder_ / "cifar100" / name, bytes);
    };
    write("train_01.bin", 300);
    write("test_01.bin", 100);
    set_ = load_images("cifar100", {folder_.string()});
  }
  void TearDown() override { fs::remove_all(folder_); }
  TaskStream stream(const StreamOptions& options, uint64_t seed = 3) {
    return load_stream(options, seed, folder_.string());
  }
  template <typename Change>
  std::string told(Change change) {
    StreamOptions options;
    options.tasks = {"cifar100"};
    change(options);
    return moekit::refusal([&] { stream(options); });
  }
  fs::path folder_;
  std::shared_ptr<ImageDataset> set_;
};

/// Grey of three colours, one image after the other.
torch::Tensor plain_grey(const torch::Tensor& images) {
  auto out = torch::zeros({images.size(0), 1, 32, 32});
  for (int64_t n = 0; n < images.size(0); ++n) {
    const auto x = images[n].to(torch::kFloat32);
    out[n][0] = (0.299F * x[0] + 0.587F * x[1] + 0.114F * x[2]).round();
  }
  return out;
}

/// Sums of three numbers may round to either side of a half.
void expect_bytes(const torch::Tensor& got, const torch::Tensor& wanted) {
  EXPECT_EQ(got.scalar_type(), torch::kUInt8);
  ASSERT_EQ(got.sizes(), wanted.sizes());
  const auto apart = (got.to(torch::kFloat32) - wanted.to(torch::kFloat32)).abs();
  EXPECT_LE(apart.max().item<double>(), 1);
  EXPECT_LT(apart.mean().item<double>(), 0.01);
}

TEST_F(StreamRulesTest, ColoursBecomeGreyAndImagesOfTheSizeWanted) {
  StreamOptions options;
  options.tasks = {"cifar100"};
  options.side = 32;
  const auto same = stream(options).tasks.at(0);
  EXPECT_EQ(same.name, "cifar100");
  EXPECT_EQ(same.class_names, set_->class_names);
  expect_bytes(same.train.images, plain_grey(set_->train.images));
  expect_bytes(same.test.images, plain_grey(set_->test.images));
  EXPECT_TRUE(torch::equal(same.train.labels, set_->train.labels));
  EXPECT_TRUE(torch::equal(same.test.labels, set_->test.labels));
  EXPECT_EQ(same.validation.size(), 0);
  options.side = 20;
  namespace F = torch::nn::functional;
  const auto small =
      F::interpolate(plain_grey(set_->test.images), F::InterpolateFuncOptions()
                                                        .size(std::vector<int64_t>{20, 20})
                                                        .mode(torch::kBilinear)
                                                        .align_corners(false));
  expect_bytes(stream(options).tasks.at(0).test.images, small.round());
}

TEST_F(StreamRulesTest, TheLastTrainingImagesAreSetApartAndEachPartIsChanged) {
  StreamOptions options;
  options.tasks = {"cifar100/noise"};
  options.side = 32;
  options.train_limit = 250;
  options.test_limit = 30;
  options.validation = 40;
  const auto task = stream(options).tasks.at(0);
  EXPECT_TRUE(torch::equal(task.train.labels, set_->train.labels.slice(0, 0, 210)));
  EXPECT_TRUE(torch::equal(task.validation.labels, set_->train.labels.slice(0, 210, 250)));
  EXPECT_TRUE(torch::equal(task.test.labels, set_->test.labels.slice(0, 0, 30)));
  options.tasks = {"cifar100"};
  const auto plain = stream(options).tasks.at(0);
  const auto noisy = [&](const ImageSet& part, const char* what) {
    return find_transform("noise").apply(
        part.images, derive_seed(3, std::string("transform/cifar100/noise/") + what));
  };
  EXPECT_TRUE(torch::equal(task.train.images, noisy(plain.train, "train")));
  EXPECT_TRUE(torch::equal(task.validation.images, noisy(plain.validation, "validation")));
  EXPECT_TRUE(torch::equal(task.test.images, noisy(plain.test, "test")));
}

TEST_F(StreamRulesTest, AFewOfEachClassAreThoseOfTheSeedsOrder) {
  StreamOptions options;
  options.tasks = {"cifar100"};
  options.side = 32;
  const auto whole = stream(options).tasks.at(0).train;
  options.per_class = 2;
  const auto few = stream(options).tasks.at(0).train;
  std::vector<int64_t> seen(100, 0);
  std::vector<int64_t> index;
  for (const int64_t i : random_permutation(300, derive_seed(3, "few/cifar100"))) {
    const auto label = static_cast<size_t>(whole.labels[i].item<int64_t>());
    if (++seen[label] <= 2) index.push_back(i);
  }
  ASSERT_EQ(index.size(), 200U);
  const auto rows = torch::tensor(index, torch::kLong);
  EXPECT_TRUE(torch::equal(few.labels, whole.labels.index_select(0, rows)));
  EXPECT_TRUE(torch::equal(few.images, whole.images.index_select(0, rows)));
}

TEST_F(StreamRulesTest, LimitsBeyondTheSetAreRefused) {
  const std::string taken = "nothing was thrown";
  using O = StreamOptions;
  EXPECT_EQ(told([](O& o) { o.train_limit = 300; }), taken);
  EXPECT_EQ(told([](O& o) { o.train_limit = 301; }),
            "stream.train_limit: cifar100 has 300 images; got 301");
  EXPECT_EQ(told([](O& o) { o.test_limit = 100; }), taken);
  EXPECT_EQ(told([](O& o) { o.test_limit = 101; }),
            "stream.test_limit: cifar100 has 100 images; got 101");
  EXPECT_EQ(told([](O& o) { o.validation = 299; }), taken);
  EXPECT_EQ(told([](O& o) { o.validation = 300; }),
            "stream.validation: cifar100 has 300 training images; got 300");
  EXPECT_EQ(told([](O& o) { o.per_class = 3; }), taken);
  EXPECT_EQ(told([](O& o) { o.per_class = 4; }),
            "stream.per_class: class 0 of cifar100 has 3 training images; got 4");
  EXPECT_EQ(told([](O& o) {
              o.per_class = 3;
              o.train_limit = 299;  // without the last one, of class 93
            }),
            "stream.per_class: class 93 of cifar100 has 2 training images; got 3");
  EXPECT_EQ(told([](O& o) { o.train_limit = o.test_limit = 1; }), taken);
  EXPECT_EQ(told([](O& o) { o.tasks = {"cluster-patch"}; }),
            "stream.tasks: cluster-patch holds numbers, no images");
}

TEST_F(StreamRulesTest, TheChecksumIsOfTheSetsInFilesAlone) {
  const std::string once = sha256(checksum(*set_));
  const std::string folder = folder_.string();
  EXPECT_EQ(stream_checksum({"cifar100", "cifar100/flip"}, folder), once);
  EXPECT_EQ(stream_checksum({"synthetic-clusters", "cifar100"}, folder), once);
  EXPECT_EQ(stream_checksum({"synthetic-clusters"}, folder), "");
  StreamOptions options;
  options.tasks = {"synthetic-clusters"};
  options.side = 12;
  const auto generated = stream(options, 6);
  EXPECT_EQ(generated.checksum, "");
  EXPECT_TRUE(
      torch::equal(generated.tasks[0].train.images, make_cluster_images({}, 6).train.images));
  options.tasks = {"synthetic-clusters", "cifar100"};
  EXPECT_EQ(stream(options).checksum, once);
}

TEST(TaskNames, AreASetAndPerhapsATransform) {
  EXPECT_EQ(parse_task("cifar10").set, "cifar10");
  EXPECT_EQ(parse_task("cifar10").transform, "identity");
  EXPECT_EQ(parse_task("cifar10/rotate90").set, "cifar10");
  EXPECT_EQ(parse_task("cifar10/rotate90").transform, "rotate90");
  EXPECT_TRUE(
      moekit::refusal([] { parse_task("nist/flip"); }).starts_with("unknown data set \"nist\""));
  EXPECT_TRUE(moekit::refusal([] {
                parse_task("mnist/flip/flip");
              }).starts_with("unknown transform \"flip/flip\"; known: identity, "));
}

TEST(TransformRules, AreThoseOfPlainLoops) {
  const auto x = torch::randint(0, 256, {2, 3, 9, 11}).to(torch::kUInt8);
  const auto change = [&](const char* name) { return find_transform(name).apply(x, 7); };
  const auto inverted = change("invert");
  const auto turned = change("rotate90");
  const auto flipped = change("flip");
  const auto shifted = change("shift");
  const auto binary = change("binarise");
  ASSERT_EQ(turned.sizes().vec(), (std::vector<int64_t>{2, 3, 11, 9}));
  EXPECT_TRUE(turned.is_contiguous());
  EXPECT_TRUE(flipped.is_contiguous());
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t i = 0; i < 9; ++i) {
        for (int64_t k = 0; k < 11; ++k) {
          const auto at = [&](const torch::Tensor& t, int64_t row, int64_t column) {
            return int{t.data_ptr<uint8_t>()[((n * 3 + c) * t.size(2) + row) * t.size(3) + column]};
          };
          const int value = at(x, i, k);
          ASSERT_EQ(at(inverted, i, k), 255 - value);
          ASSERT_EQ(at(turned, 10 - k, i), value);
          ASSERT_EQ(at(flipped, 8 - i, k), value);
          ASSERT_EQ(at(shifted, i, k), i >= 6 && k >= 6 ? at(x, i - 6, k - 6) : 0);
          ASSERT_EQ(at(binary, i, k), value >= 128 ? 255 : 0);
        }
      }
    }
  }
  const auto drawn = torch::empty({2, 3, 9, 11}).normal_(0, 76.5, tensor::make_generator(7));
  const auto noisy = (x.to(torch::kFloat32) + drawn).round().clamp(0, 255).to(torch::kUInt8);
  EXPECT_TRUE(torch::equal(change("noise"), noisy));
  const auto edge = torch::tensor({127, 128, 129}).to(torch::kUInt8).view({1, 1, 1, 3});
  EXPECT_TRUE(torch::equal(find_transform("binarise").apply(edge, 1).flatten(),
                           torch::tensor({0, 255, 255}).to(torch::kUInt8)));
  // Too low, or too narrow, for the shift.
  for (const auto& small : {x.slice(2, 0, 5), x.slice(3, 0, 5), x.slice(3, 0, 6)}) {
    const auto black = find_transform("shift").apply(small, 1);
    EXPECT_EQ(black.sizes(), small.sizes());
    EXPECT_EQ(black.sum().item<int64_t>(), 0);
  }
}

}  // namespace
}  // namespace moekit::data
