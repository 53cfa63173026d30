#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/data/sets/cifar10.h"
#include "moekit/data/sets/cifar100.h"
#include "tests/support/expected_file.h"
#include "tests/support/pack.h"

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
  /// Records whose coarse label is 0 and whose fine one counts up from `first`, modulo `classes`.
  void write(const std::string& name, int64_t count, int64_t first, int64_t classes) {
    std::string bytes;
    for (int64_t n = 0; n < count; ++n) {
      if (classes == 100) bytes += '\0';
      bytes += static_cast<char>((first + n) % classes);
      bytes.append(3072, '\1');
    }
    write_file_atomic(folder_ / (name + ".gz"), test_support::gzip(bytes));
  }
  template <typename Read>
  std::string refusal(Read read) {
    try {
      read(folder_);
    } catch (const FormatError& error) {
      return std::string(error.what()).substr(folder_.string().size() + 1);
    }
    return "no error";
  }
  fs::path folder_;
};

TEST_F(CifarTest, TenClassesTrainOnTheFilesThatAreThereInOrder) {
  write("data_batch_4.bin", 10000, 3, 10);
  write("data_batch_2.bin", 10000, 9, 10);
  EXPECT_FALSE(dataset_row("cifar10").present(folder_));  // no test file
  write("test_batch.bin", 10000, 5, 10);
  EXPECT_TRUE(dataset_row("cifar10").present(folder_));
  const auto set = read_cifar10(folder_);
  EXPECT_EQ(set.train.size(), 20000);
  EXPECT_EQ(set.train.labels[0].item<int64_t>(), 9);
  EXPECT_EQ(set.train.labels[10000].item<int64_t>(), 3);
  EXPECT_EQ(set.class_names[static_cast<size_t>(set.test.labels[0].item<int64_t>())], "dog");
  EXPECT_EQ(set.name, "cifar10");
  EXPECT_EQ(set.source, folder_.string());
  EXPECT_EQ(set.class_names,
            (std::vector<std::string>{"airplane", "automobile", "bird", "cat", "deer", "dog",
                                      "frog", "horse", "ship", "truck"}));
  EXPECT_EQ(set.normalization.mean, (std::vector<double>{0.4914, 0.4822, 0.4465}));
  EXPECT_EQ(set.normalization.std_dev, (std::vector<double>{0.2470, 0.2435, 0.2616}));
  write("data_batch_2.bin", 9999, 9, 10);
  EXPECT_EQ(refusal(read_cifar10), "data_batch_2.bin.gz: 9999 images; wanted 10000");
  write("data_batch_2.bin", 10000, 9, 10);
  write("test_batch.bin", 10000, 5, 1);
  EXPECT_EQ(refusal(read_cifar10),
            " cifar10, test part: none of 10000 images is of class 1 (automobile)");
  write("test_batch.bin", 10000, 5, 10);
  write("data_batch_2.bin", 10000, 0, 9);
  write("data_batch_4.bin", 10000, 0, 9);
  EXPECT_EQ(refusal(read_cifar10),
            " cifar10, training part: none of 20000 images is of class 9 (truck)");
}

TEST_F(CifarTest, AHundredClassesComeWholeOrInParts) {
  write("train_02.bin", 150, 99, 100);
  write("train_01.bin", 150, 7, 100);
  write("test_01.bin", 100, 0, 100);
  EXPECT_TRUE(dataset_row("cifar100").present(folder_));
  const auto set = read_cifar100(folder_);
  EXPECT_EQ(set.train.size(), 300);
  EXPECT_EQ(set.train.labels[0].item<int64_t>(), 7);
  EXPECT_EQ(set.train.labels[150].item<int64_t>(), 99);
  EXPECT_EQ(set.class_names[99], "worm");
  EXPECT_EQ(set.num_classes(), 100);
  EXPECT_EQ(set.name, "cifar100");
  EXPECT_EQ(set.source, folder_.string());
  EXPECT_EQ(set.normalization.mean, (std::vector<double>{0.5074, 0.4867, 0.4411}));
  EXPECT_EQ(set.normalization.std_dev, (std::vector<double>{0.2011, 0.1987, 0.2025}));
  std::string names;
  for (const auto& name : set.class_names) names += name + "\n";
  expect_file("data/sets/cifar100_classes.txt", names);
  write("test_01.bin", 99, 0, 100);
  EXPECT_EQ(refusal(read_cifar100),
            " cifar100, test part: none of 99 images is of class 99 (worm)");
  write("test_01.bin", 100, 0, 100);
  write("train_01.bin", 99, 0, 100);
  fs::remove(folder_ / "train_02.bin.gz");
  EXPECT_EQ(refusal(read_cifar100),
            " cifar100, training part: none of 99 images is of class 99 (worm)");
  write("train_01.bin", 150, 7, 100);
  // A whole file comes before its parts, which only repeat it, and must be whole.
  write("test.bin", 10000, 0, 100);
  EXPECT_EQ(read_cifar100(folder_).test.size(), 10000);
  write("test.bin", 9000, 0, 100);
  EXPECT_EQ(refusal(read_cifar100), "test.bin.gz: 9000 images; wanted 10000");
}

}  // namespace
}  // namespace moekit::data
