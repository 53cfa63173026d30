#include "moekit/data/sets/mnist.h"

#include <gtest/gtest.h>

#include "moekit/core/files.h"
#include "moekit/data/folders.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

/// Writes IDX files of 2 x 3 images whose pixels and labels count up from `first`.
class MnistTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-mnist-", ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write_images(const std::string& name, uint8_t count, uint8_t first) {
    std::string bytes = {0, 0, 8, 3, 0, 0, 0, static_cast<char>(count), 0, 0, 0, 2, 0, 0, 0, 3};
    for (int i = 0; i < count * 6; ++i) bytes += static_cast<char>(first + i / 6);
    write_file_atomic(folder_ / name, bytes);
  }
  void write_labels(const std::string& name, uint8_t count, uint8_t first) {
    std::string bytes = {0, 0, 8, 1, 0, 0, 0, static_cast<char>(count)};
    for (int i = 0; i < count; ++i) bytes += static_cast<char>(first + i);
    write_file_atomic(folder_ / name, bytes);
  }
  void write_pair(const std::string& part, uint8_t count, uint8_t first) {
    write_images(part + "-images-idx3-ubyte", count, first);
    write_labels(part + "-labels-idx1-ubyte", count, first);
  }
  fs::path folder_;
};

TEST_F(MnistTest, ReadsBothPartsWithTheClassesOfTheSet) {
  write_pair("train", 3, 4);
  write_pair("t10k", 2, 8);
  const auto digits = read_mnist(folder_);
  EXPECT_EQ(digits.train.images.sizes().vec(), (std::vector<int64_t>{3, 1, 2, 3}));
  EXPECT_EQ(digits.train.images[2][0][1][2].item<int>(), 6);
  EXPECT_TRUE(torch::equal(digits.test.labels, torch::tensor({8, 9})));
  EXPECT_EQ(digits.class_names[9], "9");
  EXPECT_EQ(read_fashion_mnist(folder_).class_names[9], "ankle boot");
  EXPECT_EQ(read_kmnist(folder_).train.size(), 3);
  EXPECT_THROW(read_usps(folder_), IoError);  // its test files have other names
  // All of it through the table.
  EXPECT_EQ(load_images("mnist", {folder_.string()})->train.size(), 3);
  EXPECT_EQ(load_images("mnist", {folder_.string()})->source, folder_.string());
}

TEST_F(MnistTest, KmnistTrainsOnFourFifthsOfTheTestPartWhereItIsAlone) {
  write_pair("t10k", 10, 0);
  EXPECT_TRUE(dataset_row("kmnist").present(folder_));
  EXPECT_FALSE(dataset_row("mnist").present(folder_));
  const auto set = read_kmnist(folder_);
  EXPECT_TRUE(torch::equal(set.train.labels, torch::arange(8)));
  EXPECT_TRUE(torch::equal(set.test.labels, torch::tensor({8, 9})));
  EXPECT_EQ(set.test.images[1][0][0][0].item<int>(), 9);
}

TEST_F(MnistTest, RefusesFilesThatAreNoImagesOrNoLabels) {
  write_pair("t10k", 2, 0);
  write_pair("train", 2, 0);
  write_labels("train-images-idx3-ubyte", 2, 0);
  EXPECT_THROW(read_mnist(folder_), FormatError);
  write_images("train-images-idx3-ubyte", 2, 0);
  write_images("train-labels-idx1-ubyte", 2, 0);
  EXPECT_THROW(read_mnist(folder_), FormatError);
  write_labels("train-labels-idx1-ubyte", 3, 0);  // 2 images
  EXPECT_THROW(read_mnist(folder_), FormatError);
  write_labels("train-labels-idx1-ubyte", 2, 9);  // label 10
  EXPECT_THROW(read_mnist(folder_), FormatError);
}

}  // namespace
}  // namespace moekit::data
