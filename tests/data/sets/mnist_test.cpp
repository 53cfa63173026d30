#include "moekit/data/sets/mnist.h"

#include <gtest/gtest.h>

#include "moekit/core/files.h"
#include "moekit/data/folders.h"
#include "tests/support/pack.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

std::string sizes(const std::vector<uint32_t>& values) {
  std::string out;
  for (const auto v : values) {
    for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(v >> shift);
  }
  return out;
}

/// Image n is full of n mod 251, and of class n mod `classes`.
std::string images(uint32_t count, uint32_t side) {
  std::string bytes = std::string("\0\0\x08\x03", 4) + sizes({count, side, side});
  for (uint32_t n = 0; n < count; ++n)
    bytes.append(size_t{side} * side, static_cast<char>(n % 251));
  return bytes;
}
std::string labels(uint32_t count, uint32_t classes = 10) {
  std::string bytes = std::string("\0\0\x08\x01", 4) + sizes({count});
  for (uint32_t n = 0; n < count; ++n) bytes += static_cast<char>(n % classes);
  return bytes;
}

class MnistTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-mnist-", ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const std::string& name, const std::string& bytes) {
    write_file_atomic(folder_ / (name + ".gz"), test_support::gzip(bytes));
  }
  void write_pair(const std::string& part, uint32_t count, uint32_t side = 28) {
    write(part + "-images-idx3-ubyte", images(count, side));
    write(part + "-labels-idx1-ubyte", labels(count));
  }
  std::string refusal() {
    try {
      read_mnist(folder_);
    } catch (const FormatError& error) {
      const std::string text = error.what();
      return text.substr(folder_.string().size() + 1);
    }
    return "no error";
  }
  fs::path folder_;
};

TEST_F(MnistTest, ReadsBothPartsWithTheClassesOfTheSet) {
  write_pair("train", 60000);
  write_pair("t10k", 10000);
  const auto digits = read_mnist(folder_);
  EXPECT_EQ(digits.train.images.sizes().vec(), (std::vector<int64_t>{60000, 1, 28, 28}));
  EXPECT_EQ(digits.train.images[259][0][27][27].item<int>(), 8);
  EXPECT_EQ(digits.test.size(), 10000);
  EXPECT_EQ(digits.test.labels[9998].item<int64_t>(), 8);
  EXPECT_EQ(digits.class_names[9], "9");
  EXPECT_EQ(read_fashion_mnist(folder_).class_names[9], "ankle boot");
  EXPECT_EQ(read_kmnist(folder_).train.size(), 60000);
  EXPECT_THROW(read_usps(folder_), IoError);  // its test files have other names
  // All of it through the table.
  EXPECT_EQ(load_images("mnist", {folder_.string()})->source, folder_.string());
}

TEST_F(MnistTest, KmnistTrainsOnFourFifthsOfTheTestPartWhereItIsAlone) {
  write_pair("t10k", 10000);
  EXPECT_TRUE(dataset_row("kmnist").present(folder_));
  EXPECT_FALSE(dataset_row("mnist").present(folder_));
  const auto set = read_kmnist(folder_);
  EXPECT_EQ(set.train.size(), 8000);
  EXPECT_EQ(set.test.size(), 2000);
  EXPECT_EQ(set.test.images[1][0][0][0].item<int>(), 8001 % 251);
}

TEST_F(MnistTest, UspsIsOfItsOwnSize) {
  write_pair("train", 7291, 16);
  write_pair("test", 2007, 16);
  EXPECT_EQ(read_usps(folder_).train.images.sizes().vec(), (std::vector<int64_t>{7291, 1, 16, 16}));
}

TEST_F(MnistTest, RefusesFilesThatHoldOtherThanTheSetIsKnownToHave) {
  write_pair("t10k", 10000);
  write("train-labels-idx1-ubyte", labels(60000));
  const auto with_images = [&](const std::string& bytes) {
    write("train-images-idx3-ubyte", bytes);
    return refusal();
  };
  const std::string file = "train-images-idx3-ubyte.gz: holds ";
  EXPECT_EQ(with_images(images(60000, 1)), file + "[60000, 1, 1] bytes; wanted [60000, 28, 28]");
  EXPECT_EQ(with_images(images(0, 28)), file + "[0, 28, 28] bytes; wanted [60000, 28, 28]");
  EXPECT_EQ(with_images(images(59, 28)), file + "[59, 28, 28] bytes; wanted [60000, 28, 28]");
  EXPECT_EQ(with_images(labels(60000)), file + "[60000] bytes; wanted [60000, 28, 28]");
  EXPECT_EQ(with_images(images(60000, 28)), "no error");
  const auto with_labels = [&](const std::string& bytes) {
    write("train-labels-idx1-ubyte", bytes);
    return refusal();
  };
  EXPECT_EQ(with_labels(images(1, 28)),
            "train-labels-idx1-ubyte.gz: holds [1, 28, 28] bytes; wanted [60000]");
  EXPECT_EQ(with_labels(labels(60000, 11)),
            "train-labels-idx1-ubyte.gz: label 10; there are 10 classes");
  EXPECT_EQ(with_labels(labels(60000, 1)),
            " mnist, training part: none of 60000 images is of class 1 (1)");
}

/// Normalised with its own constants, a training part has mean 0 and deviation 1.
TEST(Normalization, IsThatOfTheTrainingImages) {
  const char* folder = MOEKIT_TEST_DATA;
  int found = 0;
  for (const char* name : {"mnist", "fashion-mnist", "cifar10"}) {
    const auto& row = dataset_row(name);
    if (!find_dataset(row, folder)) continue;
    ++found;
    const auto set = load_images(name, {folder, 1});
    const auto images = set->train.images.slice(0, 0, 10'000);  // enough to tell constants apart
    const auto pixels = normalize(images, set->normalization).transpose(0, 1).flatten(1);
    for (int64_t c = 0; c < pixels.size(0); ++c) {
      EXPECT_NEAR(pixels[c].mean().item<double>(), 0, 2e-2) << name << " " << c;
      EXPECT_NEAR(pixels[c].std().item<double>(), 1, 2e-2) << name << " " << c;
    }
  }
  if (found == 0) GTEST_SKIP() << "no data set of a known normalization was found";
}

}  // namespace
}  // namespace moekit::data
