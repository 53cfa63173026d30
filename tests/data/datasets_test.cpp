#include "moekit/data/datasets.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/data/folders.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

TEST(Datasets, EveryNameIsKnownOnceAndComesFromSomewhere) {
  std::vector<std::string_view> names;
  for (const auto& row : DatasetKinds::rows()) {
    EXPECT_EQ(std::count(names.begin(), names.end(), row.name), 0) << row.name;
    names.push_back(row.name);
    EXPECT_EQ(row.folders.empty(), row.present == nullptr) << row.name;
    EXPECT_FALSE(row.present != nullptr && !row.parts.empty()) << row.name;
    for (const auto& part : row.parts) EXPECT_FALSE(dataset_row(part).generated()) << row.name;
    for (const auto& file : row.files) {
      EXPECT_TRUE(file.sha256.size() == 64 || file.archive_sha256.size() == 64) << file.name;
    }
  }
}

/// A section of a recipe.
struct Section {
  Choice<DatasetKinds> set;
  template <typename Field>
  void visit(Field&& field) {
    field("name", set, DatasetKinds::kDoc);
  }
};

std::string refusal(const std::string& toml) {
  try {
    Section section;
    bind_config(parse_toml(toml, "r.toml"), section);
    section.set.check(DatasetSite{}, "options");
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Datasets, ARecipeNamesOneAndGivesItsOptions) {
  Section section;
  bind_config(
      parse_toml("name = \"cluster-patch\"\n[options]\nnum_train = 30\nnum_test = 20\n", "r"),
      section);
  const auto a = load_images(section.set, {"", 7});
  EXPECT_EQ(a->train.size(), 30);
  EXPECT_EQ(a->test.size(), 20);
  EXPECT_EQ(a->source, "generated");
  EXPECT_TRUE(torch::equal(a->train.images, load_images(section.set, {"", 7})->train.images));
  EXPECT_FALSE(torch::equal(a->train.images, load_images(section.set, {"", 8})->train.images));
}

TEST(Datasets, RefuseUnknownNamesAndOptionsOfAnotherSet) {
  EXPECT_NE(refusal("name = \"nope\"").find("r.toml:1: name: unknown data set \"nope\"; known: "),
            std::string::npos);
  EXPECT_EQ(refusal("name = \"mnist\"\noptions = { dim = 3 }"),
            "r.toml:2: unknown key options.dim; name = \"mnist\" has none");
  EXPECT_EQ(refusal("name = \"synthetic-clusters\"\noptions = { num_classes = 9 }"),
            "options.num_classes must be 2..8; got 9");
  EXPECT_THROW(load_dataset("nope"), ArgumentError);
}

class TextDataset : public Dataset {
 public:
  std::string_view kind() const override { return "text"; }
  Json describe() const override { return {{"summary", "ten words"}}; }
};

TEST(Datasets, WhoWantsImagesRefusesAnotherKindByName) {
  const auto text = std::make_shared<TextDataset>();
  text->name = "poems";
  try {
    as_images(text);
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "data set poems holds text; images are wanted");
  }
}

TEST(Datasets, DescribeThemselves) {
  ImageDataset set;
  set.train = {torch::zeros({3, 1, 2, 4}), torch::tensor({0, 1, 1}), torch::tensor({0, 2, 1})};
  set.test = {torch::zeros({1, 1, 2, 4}), torch::tensor({0}), torch::tensor({0})};
  set.class_names = {"cat", "dog"};
  set.normalization = {{0.5}, {0.25}};
  EXPECT_EQ(set.describe().dump(),
            R"json({"summary":"3 training and 1 test images of 2x4, 1 channel(s)",)json"
            R"json("image":[1,2,4],"mean":[0.5],"std":[0.25],"train":3,"test":1,)json"
            R"json("true_clusters":3,"classes":{"cat":{"train":1,"test":1},)json"
            R"json("dog":{"train":2,"test":0}}})json");
}

TEST(Folders, TellWhereTheySearched) {
  EXPECT_THROW(load_dataset("cifar10", {"/nonexistent/folder"}), IoError);
  const auto folder = fs::temp_directory_path() / concat("moekit-empty-", ::getpid());
  fs::create_directories(folder);
  try {
    load_dataset("usps", {folder.string()});
    GTEST_SKIP() << "usps is in a standard folder here";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find(folder.string()), std::string::npos);
  }
  fs::remove_all(folder);
}

/// A folder of the test's own, and the environment as it was afterwards.
class FoldersTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-folders-", ::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "usps");
    for (const char* name : kNames) {
      const char* value = std::getenv(name);
      before_.push_back(value == nullptr ? std::nullopt : std::optional<std::string>(value));
    }
  }
  void TearDown() override {
    fs::remove_all(folder_);
    for (size_t i = 0; i < before_.size(); ++i) set(kNames[i], before_[i]);
  }
  static void set(const char* name, const std::optional<std::string>& value) {
    value ? ::setenv(name, value->c_str(), 1) : ::unsetenv(name);
  }
  std::string refusal(const fs::path& flag) {
    try {
      dataset_folder("usps", flag.string());
    } catch (const IoError& error) {
      return error.what();
    }
    return "no error";
  }
  static constexpr const char* kNames[] = {"XDG_CACHE_HOME", "HOME", "MOEKIT_DATA"};
  std::vector<std::optional<std::string>> before_;
  fs::path folder_;
};

TEST_F(FoldersTest, TheCacheIsWhereAbsolutePathsSayAndNeverInTheCurrentFolder) {
  set("XDG_CACHE_HOME", "/x");
  set("HOME", "/h");
  EXPECT_EQ(cache_folder(), "/x/moekit");
  // The XDG specification: relative paths are to be ignored.
  for (const char* relative : {"", "x", "./x", "../x"}) {
    set("XDG_CACHE_HOME", relative);
    EXPECT_EQ(cache_folder(), "/h/.cache/moekit") << relative;
  }
  set("XDG_CACHE_HOME", std::nullopt);
  for (const auto& home : {std::optional<std::string>(), std::optional<std::string>(""),
                           std::optional<std::string>("h")}) {
    set("HOME", home);
    EXPECT_THROW(cache_folder(), IoError);
    for (const auto& folder : search_folders("")) EXPECT_TRUE(folder.is_absolute()) << folder;
  }
  set("XDG_CACHE_HOME", "/x");
  EXPECT_EQ(cache_folder(), "/x/moekit");
}

TEST_F(FoldersTest, SayWhatIsWrongWithAFolder) {
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text << ", wanted " << part;
  };
  fs::create_symlink("loop", folder_ / "loop");
  has(refusal(folder_ / "loop"), "--data " + (folder_ / "loop").string() + ": Too many levels");
  has(refusal(folder_ / "none"), "none: no such folder");
  fs::create_symlink("none", folder_ / "dangling");
  has(refusal(folder_ / "dangling"), "dangling: is a link that leads nowhere");
  write_file_atomic(folder_ / "file", "");
  has(refusal(folder_ / "file"), "file: is no folder");
  fs::remove(folder_ / "loop");
  fs::remove(folder_ / "dangling");
  has(refusal(folder_), "searched: " + folder_.string() + " ");  // nothing wrong with it
  const auto images = folder_ / "usps" / "train-images-idx3-ubyte";
  fs::create_symlink("none", images);
  has(refusal(folder_), "/usps: train-images-idx3-ubyte is a link that leads nowhere");
  fs::remove(images);
  fs::create_symlink(images, images);
  has(refusal(folder_), "/usps: train-images-idx3-ubyte: Too many levels");
  fs::remove(images);
  ASSERT_EQ(::mkfifo(images.c_str(), 0600), 0);
  has(refusal(folder_), "/usps: train-images-idx3-ubyte is no regular file");
  EXPECT_THROW(need_file(folder_ / "usps", "train-images-idx3-ubyte"), IoError);
  fs::remove(images);
  // Some of its files: the next folder that is searched is not what was meant.
  fs::create_directories(folder_ / "mnist");
  write_file_atomic(folder_ / "mnist" / "t10k-labels-idx1-ubyte", "");
  try {
    find_dataset(dataset_row("mnist"), folder_.string());
    ADD_FAILURE() << "took a part for the whole";
  } catch (const IoError& error) {
    has(error.what(), "mnist is no whole mnist: lacks train-images-idx3-ubyte train-labels");
  }
  if (::geteuid() == 0) return;  // who may read everything
  fs::permissions(folder_ / "usps", fs::perms::none);
  has(refusal(folder_), "/usps: Permission denied");
  fs::permissions(folder_ / "usps", fs::perms::owner_all);
}

TEST(Folders, SearchTheFlagThenTheVariableThenCacheThenDebian) {
  ::setenv("MOEKIT_DATA", "/from-variable", 1);
  const auto folders = search_folders("/from-flag");
  ::unsetenv("MOEKIT_DATA");
  ASSERT_EQ(folders.size(), 4U);
  EXPECT_EQ(folders[0], "/from-flag");
  EXPECT_EQ(folders[1], "/from-variable");
  EXPECT_EQ(folders[3], "/usr/share/datasets");
}

TEST(Datasets, RefuseGeneratedOnesThatTheMemoryDoesNotHold) {
  for (const char* name : {"cluster-patch", "soft-routed-teacher", "synthetic-clusters"}) {
    for (const char* key : {"num_train", "num_test"}) {
      const auto text =
          refusal(concat("name = \"", name, "\"\noptions = { ", key, " = 1000000000 }"));
      EXPECT_NE(text.find(concat("options.", key, " = 1000000000: [1000000000, ")),
                std::string::npos)
          << text;
      EXPECT_NE(text.find(" GB of memory are free"), std::string::npos) << text;
    }
  }
  for (const char* toml :
       {"name = \"cluster-patch\"\noptions = { dim = 1000000000 }",
        "name = \"soft-routed-teacher\"\noptions = { dim = 1000000000 }",
        "name = \"soft-routed-teacher\"\noptions = { dim = 1000000000, pairs = 500000000 }"}) {
    EXPECT_NE(refusal(toml).find("dim = 1000000000: ["), std::string::npos) << refusal(toml);
  }
}

TEST(Datasets, ReadDebiansFashionMnist) {
  if (!find_dataset(dataset_row("fashion-mnist"), "")) GTEST_SKIP() << "package not installed";
  const auto images = load_images("fashion-mnist");
  const ImageDataset& dataset = *images;
  EXPECT_EQ(dataset.train.size(), 60000);
  EXPECT_EQ(dataset.test.size(), 10000);
  EXPECT_EQ(dataset.test.images.sizes(), (std::vector<int64_t>{10000, 1, 28, 28}));
  EXPECT_TRUE(torch::bincount(dataset.test.labels).eq(1000).all().item<bool>());
  // The recorded mean and deviation are those of the training images.
  const auto pixels = dataset.train.images.to(torch::kFloat32) / 255;
  EXPECT_NEAR(pixels.mean().item<double>(), dataset.normalization.mean[0], 1e-3);
  EXPECT_NEAR(pixels.std().item<double>(), dataset.normalization.std_dev[0], 1e-3);
}

TEST(Datasets, ReadTheLargerDataSetsOfADataFolder) {
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
    if (!find_dataset(dataset_row(want.name), folder)) continue;
    const auto images = load_images(want.name, {folder});
    const ImageDataset& dataset = *images;
    EXPECT_EQ(dataset.train.size(), want.train) << want.name;
    EXPECT_EQ(dataset.test.size(), want.test) << want.name;
    EXPECT_EQ(dataset.num_classes(), want.classes);
    EXPECT_EQ(dataset.test.images.sizes().vec(),
              (std::vector<int64_t>{want.test, want.channels, want.side, want.side}));
  }
}

}  // namespace
}  // namespace moekit::data
