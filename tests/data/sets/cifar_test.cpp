#include <gtest/gtest.h>

#include "moekit/core/files.h"
#include "moekit/data/sets/cifar10.h"
#include "moekit/data/sets/cifar100.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

class CifarTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-cifar-", ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  /// One record a label.
  void write(const std::string& name, const std::vector<std::string>& labels) {
    std::string bytes;
    for (const auto& label : labels) bytes += label + std::string(3072, '\1');
    write_file_atomic(folder_ / name, bytes);
  }
  fs::path folder_;
};

TEST_F(CifarTest, TenClassesTrainOnTheFilesThatAreThereInOrder) {
  write("data_batch_4.bin", {"\x03"});
  write("data_batch_2.bin", {"\x09", "\x01"});
  EXPECT_FALSE(dataset_row("cifar10").present(folder_));  // no test file
  write("test_batch.bin", {"\x05"});
  EXPECT_TRUE(dataset_row("cifar10").present(folder_));
  const auto set = read_cifar10(folder_);
  EXPECT_TRUE(torch::equal(set.train.labels, torch::tensor({9, 1, 3})));
  EXPECT_EQ(set.class_names[static_cast<size_t>(set.test.labels[0].item<int64_t>())], "dog");
}

TEST_F(CifarTest, AHundredClassesComeWholeOrInParts) {
  write("train_02.bin", {std::string("\x00\x63", 2)});
  write("train_01.bin", {std::string("\x00\x07", 2)});
  write("test_01.bin", {std::string("\x00\x00", 2)});
  EXPECT_TRUE(dataset_row("cifar100").present(folder_));
  const auto set = read_cifar100(folder_);
  EXPECT_TRUE(torch::equal(set.train.labels, torch::tensor({7, 99})));
  EXPECT_EQ(set.class_names[99], "worm");
  EXPECT_EQ(set.num_classes(), 100);
}

}  // namespace
}  // namespace moekit::data
