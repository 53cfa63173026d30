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
  void expect_told(const ImageDataset& set, const char* name, double mean, double deviation,
                   const std::vector<std::string>& class_names) {
    EXPECT_EQ(set.name, name);
    EXPECT_EQ(set.source, folder_.string());
    EXPECT_EQ(set.normalization.mean, std::vector<double>{mean});
    EXPECT_EQ(set.normalization.std_dev, std::vector<double>{deviation});
    EXPECT_EQ(set.class_names, class_names);
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
  using Names = std::vector<std::string>;
  const Names digit_names = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
  expect_told(digits, "mnist", 0.1307, 0.3081, digit_names);
  expect_told(read_fashion_mnist(folder_), "fashion-mnist", 0.2859, 0.3530,
              {"T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
               "bag", "ankle boot"});
  const auto kmnist = read_kmnist(folder_);
  EXPECT_EQ(kmnist.train.size(), 60000);
  EXPECT_EQ(kmnist.test.size(), 10000);
  expect_told(kmnist, "kmnist", 0.1918, 0.3483,
              {"o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"});
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
  EXPECT_EQ(set.train.images[7999][0][0][0].item<int>(), 7999 % 251);
  EXPECT_EQ(set.test.images[0][0][0][0].item<int>(), 8000 % 251);
  EXPECT_EQ(set.test.images[1][0][0][0].item<int>(), 8001 % 251);
}

TEST_F(MnistTest, UspsIsOfItsOwnSize) {
  write_pair("train", 7291, 16);
  write_pair("test", 2007, 16);
  const auto set = read_usps(folder_);
  EXPECT_EQ(set.train.images.sizes().vec(), (std::vector<int64_t>{7291, 1, 16, 16}));
  EXPECT_EQ(set.test.images.sizes().vec(), (std::vector<int64_t>{2007, 1, 16, 16}));
  EXPECT_EQ(set.test.labels[2006].item<int64_t>(), 6);
  expect_told(set, "usps", 0.2469, 0.2989, {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
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
  EXPECT_EQ(with_labels(labels(60000)), "no error");
  write("t10k-labels-idx1-ubyte", labels(10000, 9));
  EXPECT_EQ(refusal(), " mnist, test part: none of 10000 images is of class 9 (9)");
}

TEST_F(MnistTest, SixKindsOfClothesAndSixDigitsAreOneSet) {
  const auto root = folder_;
  for (const char* name : {"fashion-mnist", "mnist"}) {
    folder_ = root / name;
    fs::create_directories(folder_);
    write_pair("train", 60000);
    write_pair("t10k", 10000);
  }
  folder_ = root;
  const auto set = load_images("fashion-mnist+mnist", {root.string()});
  EXPECT_EQ(set->class_names,
            (std::vector<std::string>{"T-shirt", "trouser", "pullover", "dress", "coat", "sandal",
                                      "4", "5", "6", "7", "8", "9"}));
  EXPECT_EQ(set->name, "fashion-mnist+mnist");
  EXPECT_EQ(set->train.size(), 72000);  // six tenths of both
  EXPECT_EQ(set->test.size(), 12000);
  EXPECT_TRUE(torch::equal(set->train.labels.slice(0, 0, 12),
                           torch::tensor({0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11})));
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
