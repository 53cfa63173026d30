#include "moekit/data/registry.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "moekit/core/error.h"
#include "moekit/data/joined.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

TEST(Registry, EveryNameIsKnownOnceAndLoadable) {
  std::vector<std::string> names;
  for (const auto& info : known_datasets()) {
    EXPECT_EQ(std::count(names.begin(), names.end(), info.name), 0);
    names.push_back(info.name);
    EXPECT_EQ((info.load != nullptr) + (info.join != nullptr) + (info.generate != nullptr), 1);
    EXPECT_EQ(info.load != nullptr, info.present != nullptr);
    EXPECT_EQ(info.join != nullptr, !info.parts.empty());
    for (const auto& file : info.files) {
      EXPECT_TRUE(file.sha256.size() == 64 || file.archive_sha256.size() == 64) << file.name;
    }
  }
}

TEST(Registry, RefusesUnknownNamesAndTellsWhereItSearched) {
  EXPECT_THROW(load_dataset("nope"), ArgumentError);
  EXPECT_THROW(load_dataset("cifar10", "/nonexistent/folder"), IoError);
  const auto folder = fs::temp_directory_path() / concat("moekit-empty-", ::getpid());
  fs::create_directories(folder);
  try {
    load_dataset("usps", folder.string());
    GTEST_SKIP() << "usps is in a standard folder here";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find(folder.string()), std::string::npos);
  }
  fs::remove_all(folder);
}

TEST(Registry, SearchesTheFlagThenTheVariableThenCacheThenDebian) {
  ::setenv("MOEKIT_DATA", "/from-variable", 1);
  const auto folders = search_folders("/from-flag");
  ::unsetenv("MOEKIT_DATA");
  ASSERT_EQ(folders.size(), 4U);
  EXPECT_EQ(folders[0], "/from-flag");
  EXPECT_EQ(folders[1], "/from-variable");
  EXPECT_EQ(folders[3], "/usr/share/datasets");
}

TEST(Registry, ReadsDebiansFashionMnist) {
  if (!find_dataset(dataset_info("fashion-mnist"), "")) GTEST_SKIP() << "package not installed";
  const auto dataset = load_dataset("fashion-mnist");
  EXPECT_EQ(dataset.train.size(), 60000);
  EXPECT_EQ(dataset.test.size(), 10000);
  EXPECT_EQ(dataset.test.images.sizes(), (std::vector<int64_t>{10000, 1, 28, 28}));
  EXPECT_TRUE(torch::bincount(dataset.test.labels).eq(1000).all().item<bool>());
  // The recorded mean and deviation are those of the training images.
  const auto pixels = dataset.train.images.to(torch::kFloat32) / 255;
  EXPECT_NEAR(pixels.mean().item<double>(), dataset.normalization.mean[0], 1e-3);
  EXPECT_NEAR(pixels.std().item<double>(), dataset.normalization.std_dev[0], 1e-3);
}

TEST(JoinDatasets, AlternatesRenumbersAndKeepsThePart) {
  const auto part = [](const char* name, int64_t offset) {
    Dataset set;
    set.name = name;
    const auto labels = torch::tensor({0, 1, 2, 1, 0});
    set.train = {(labels + offset).to(torch::kUInt8).reshape({5, 1, 1, 1}), labels, {}};
    set.test = set.train;
    set.class_names = {"zero", "one", "two"};
    return set;
  };
  const auto joined = join_datasets(part("a", 10), {1}, part("b", 20), {2, 0});
  EXPECT_EQ(joined.class_names, (std::vector<std::string>{"one", "two", "zero"}));
  // a's images of class 1 twice, b's of classes 0, 2 (of 0, 2, 0: cut to the shorter part).
  EXPECT_TRUE(torch::equal(joined.train.images.flatten(),
                           torch::tensor({11, 20, 11, 22}).to(torch::kUInt8)));
  EXPECT_TRUE(torch::equal(joined.train.labels, torch::tensor({0, 2, 0, 1})));
  EXPECT_TRUE(torch::equal(joined.train.clusters, torch::tensor({0, 1, 0, 1})));
  EXPECT_THROW(join_datasets(part("a", 0), {3}, part("b", 0), {0}), ArgumentError);
}

TEST(Registry, ReadsTheLargerDataSetsOfADataFolder) {
  const std::string folder = MOEKIT_TEST_DATA;
  if (folder.empty()) GTEST_SKIP() << "no data folder: configure with -DMOEKIT_DATA_DIR=DIR";
  struct Expected {
    const char* name;
    int64_t train, test, channels, side, classes;
  };
  for (const auto& want :
       {Expected{"mnist", 60000, 10000, 1, 28, 10}, Expected{"kmnist", 8000, 2000, 1, 28, 10},
        // twice the 35,246 and 5,843 digits 4 to 9, which are fewer than the clothes
        Expected{"fashion-mnist+mnist", 70492, 11686, 1, 28, 12},
        Expected{"usps", 7291, 2007, 1, 16, 10}, Expected{"cifar10", 20000, 10000, 3, 32, 10},
        Expected{"cifar100", 10000, 5000, 3, 32, 100}}) {
    if (!find_dataset(dataset_info(want.name), folder)) continue;
    const auto dataset = load_dataset(want.name, folder);
    EXPECT_EQ(dataset.train.size(), want.train) << want.name;
    EXPECT_EQ(dataset.test.size(), want.test) << want.name;
    EXPECT_EQ(dataset.num_classes(), want.classes);
    EXPECT_EQ(dataset.test.images.sizes().vec(),
              (std::vector<int64_t>{want.test, want.channels, want.side, want.side}));
  }
}

}  // namespace
}  // namespace moekit::data
