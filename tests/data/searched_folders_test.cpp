#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "moekit/core/files.h"
#include "moekit/data/folders.h"
#include "tests/support/refusal.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

/// All folders that are searched, below one of the test's own: flag, var, cache/moekit.
class SearchedFoldersTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / concat("moekit-searched-", ::getpid());
    fs::remove_all(root_);
    for (const char* name : {"flag", "var", "cache/moekit"}) create_folders(root_ / name);
    for (const char* name : kVariables) {
      const char* value = std::getenv(name);
      before_.push_back(value == nullptr ? std::nullopt : std::optional<std::string>(value));
    }
    ::setenv("MOEKIT_DATA", (root_ / "var").c_str(), 1);
    ::setenv("XDG_CACHE_HOME", (root_ / "cache").c_str(), 1);
  }
  void TearDown() override {
    fs::remove_all(root_);
    for (size_t i = 0; i < before_.size(); ++i) {
      before_[i] ? ::setenv(kVariables[i], before_[i]->c_str(), 1) : ::unsetenv(kVariables[i]);
    }
  }
  void touch(const fs::path& folder, const std::vector<std::string>& names) {
    create_folders(root_ / folder);
    for (const auto& name : names) write_file_atomic(root_ / folder / name, "");
  }
  std::string at(const std::string& name) const { return (root_ / name).string(); }
  std::string told(const std::string& name, const std::string& flag) {
    return moekit::refusal([&] { dataset_folder(name, flag); });
  }
  const DatasetRow& usps_ = dataset_row("usps");
  fs::path root_;
  static constexpr const char* kVariables[] = {"MOEKIT_DATA", "XDG_CACHE_HOME"};
  std::vector<std::optional<std::string>> before_;
};

const std::vector<std::string> kUspsFiles = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                             "test-images-idx3-ubyte", "test-labels-idx1-ubyte"};
const std::vector<std::string> kMnistFiles = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                              "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

TEST_F(SearchedFoldersTest, FilesAreFoundPlainOrPackedInTheOrderAsked) {
  touch("flag", {"a", "a.gz", "b.xz", "c.gz", "c.xz"});
  create_folders(root_ / "flag" / "d");
  create_folders(root_ / "flag" / "e");
  touch("flag", {"e.xz"});
  const fs::path flag = root_ / "flag";
  EXPECT_EQ(find_files(flag, {"c", "none", "a", "b", "d", "e"}),
            (std::vector<fs::path>{flag / "c.gz", flag / "a", flag / "b.xz", flag / "e.xz"}));
  EXPECT_TRUE(has_files(flag, {"a", "b", "c"}));
  EXPECT_TRUE(has_files(flag, {}));
  EXPECT_FALSE(has_files(flag, {"a", "d"}));
  EXPECT_FALSE(has_files(flag, {"none"}));
  EXPECT_EQ(need_file(flag, "b"), flag / "b.xz");
  EXPECT_EQ(moekit::refusal([&] { need_file(flag, "none"); }),
            flag.string() + " holds no none[.gz|.xz]");
  EXPECT_EQ(moekit::refusal([&] { need_file(flag / "a", "none"); }),
            (flag / "a").string() + " holds no none[.gz|.xz]: is no folder");
}

TEST_F(SearchedFoldersTest, TroubleIsToldOnlyWhereThereIsSome) {
  EXPECT_EQ(folder_trouble(root_), "");
  EXPECT_EQ(folder_trouble(root_ / "none"), "");
  touch("flag", {"file"});
  EXPECT_EQ(folder_trouble(root_ / "flag"), "");
  EXPECT_EQ(folder_trouble(root_ / "flag" / "file"), ": is no folder");
  fs::create_symlink("none", root_ / "link");
  EXPECT_EQ(folder_trouble(root_ / "link"), ": is a link that leads nowhere");
  EXPECT_EQ(folder_trouble(root_), ": link is a link that leads nowhere");
  fs::remove(root_ / "link");
  fs::create_symlink("link", root_ / "link");
  EXPECT_EQ(folder_trouble(root_ / "link"), ": Too many levels of symbolic links");
  EXPECT_EQ(folder_trouble(root_), ": link: Too many levels of symbolic links");
  fs::remove(root_ / "link");
  fs::create_symlink("flag", root_ / "link");  // a sound one
  EXPECT_EQ(folder_trouble(root_), "");
  EXPECT_EQ(folder_trouble(root_ / "link"), "");
  ASSERT_EQ(::mkfifo((root_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(folder_trouble(root_), ": pipe is no regular file");
}

TEST_F(SearchedFoldersTest, TheMessageListsThemWithWhatIsWrong) {
  if (find_dataset(usps_, "")) GTEST_SKIP() << "usps is in a standard folder here";
  const std::string begin = "data set usps was not found; searched: ";
  EXPECT_EQ(told("usps", at("flag")), begin + at("flag") + " " + at("var") + " " +
                                          at("cache/moekit") + " /usr/share/datasets");
  EXPECT_EQ(told("usps", ""),
            begin + at("var") + " " + at("cache/moekit") + " /usr/share/datasets");
  ::setenv("MOEKIT_DATA", "", 1);
  EXPECT_EQ(told("usps", ""), begin + at("cache/moekit") + " /usr/share/datasets");
  ::setenv("MOEKIT_DATA", at("var").c_str(), 1);
  touch("var", {"usps"});
  fs::create_symlink("none", root_ / "cache" / "moekit" / "link");
  EXPECT_EQ(told("usps", ""), begin + at("var") + " (usps: is no folder) " + at("cache/moekit") +
                                  " (link is a link that leads nowhere) /usr/share/datasets");
  ::setenv("MOEKIT_DATA", at("var/usps").c_str(), 1);
  fs::remove(root_ / "cache" / "moekit" / "link");
  EXPECT_EQ(told("usps", ""), begin + at("var/usps") + " (is no folder) " + at("cache/moekit") +
                                  " /usr/share/datasets");
  if (find_dataset(dataset_row("cifar10"), "")) return;
  EXPECT_EQ(told("cifar10", at("flag")),
            "data set cifar10 was not found; searched: " + at("flag") + " " + at("var/usps") +
                " (is no folder) " + at("cache/moekit") +
                " /usr/share/datasets; try: moekit data fetch cifar10");
}

TEST_F(SearchedFoldersTest, AFlagMustNameAFolder) {
  EXPECT_EQ(moekit::refusal([&] { check_data_flag(""); }), "nothing was thrown");
  EXPECT_EQ(moekit::refusal([&] { check_data_flag(at("flag")); }), "nothing was thrown");
  EXPECT_EQ(told("usps", at("none")), "--data " + at("none") + ": no such folder");
  touch("flag", {"file"});
  EXPECT_EQ(told("usps", at("flag/file")), "--data " + at("flag/file") + ": is no folder");
}

TEST_F(SearchedFoldersTest, TheFirstThatHoldsTheSetIsTaken) {
  touch("cache/moekit/usps", kUspsFiles);
  EXPECT_EQ(find_dataset(usps_, ""), root_ / "cache/moekit/usps");
  EXPECT_EQ(find_dataset(usps_, at("flag")), root_ / "cache/moekit/usps");
  // Without a folder of their own only where the flag says so.
  touch("var", kUspsFiles);
  EXPECT_EQ(find_dataset(usps_, ""), root_ / "cache/moekit/usps");
  EXPECT_EQ(find_dataset(usps_, at("flag")), root_ / "cache/moekit/usps");
  EXPECT_EQ(find_dataset(usps_, at("var")), root_ / "var");
  // Parts of a set end the search only below the flag.
  touch("var/mnist", {kMnistFiles[1], kMnistFiles[2]});
  touch("cache/moekit/mnist", kMnistFiles);
  EXPECT_EQ(find_dataset(dataset_row("mnist"), ""), root_ / "cache/moekit/mnist");
  EXPECT_EQ(told("mnist", at("var")),
            at("var/mnist") + " is no whole mnist: lacks " + kMnistFiles[0] + " " + kMnistFiles[3]);
  // An empty folder of its name is passed over; its own folder comes before loose files.
  create_folders(root_ / "flag" / "mnist");
  EXPECT_EQ(find_dataset(dataset_row("mnist"), at("flag")), root_ / "cache/moekit/mnist");
  touch("flag", kUspsFiles);
  touch("flag/usps", kUspsFiles);
  EXPECT_EQ(dataset_folder("usps", at("flag")), root_ / "flag/usps");
  fs::remove_all(root_ / "var/usps");
  touch("var", {"usps"});
  EXPECT_EQ(told("usps", at("var")), at("var/usps") + ": is no folder");
}

TEST_F(SearchedFoldersTest, ASetOfOthersIsWhereItsFirstPartIs) {
  DatasetRow both = dataset_row("fashion-mnist+mnist");
  both.parts = {"usps", "mnist"};
  touch("var/usps", kUspsFiles);
  if (!find_dataset(dataset_row("mnist"), "")) {
    EXPECT_EQ(find_dataset(both, ""), std::nullopt);
  }
  touch("cache/moekit/mnist", kMnistFiles);
  EXPECT_EQ(find_dataset(both, ""), root_ / "var/usps");
  fs::remove_all(root_ / "var/usps");
  EXPECT_EQ(find_dataset(both, at("flag")), find_dataset(usps_, ""));
  EXPECT_EQ(find_dataset(dataset_row("cluster-patch"), at("flag")), std::nullopt);
}

TEST_F(SearchedFoldersTest, ASetIsThereWhereNoFileIsMissing) {
  struct Wanted {
    const char* set;
    std::vector<std::string> files;
  };
  const std::vector<Wanted> all = {
      {"mnist", kMnistFiles},
      {"fashion-mnist", kMnistFiles},
      {"kmnist", {kMnistFiles[2], kMnistFiles[3]}},
      {"usps", kUspsFiles},
      {"cifar10", {"data_batch_3.bin", "test_batch.bin"}},
      {"cifar100", {"train.bin", "test.bin"}},
      {"cifar100", {"train_01.bin", "test.bin"}},
      {"cifar100", {"train_02.bin", "test_01.bin"}},
  };
  for (const auto& wanted : all) {
    const auto& row = dataset_row(wanted.set);
    for (size_t lacking = 0; lacking <= wanted.files.size(); ++lacking) {
      const fs::path folder = root_ / concat(wanted.set, lacking, wanted.files[0]);
      create_folders(folder);
      for (size_t i = 0; i < wanted.files.size(); ++i) {
        if (i != lacking) write_file_atomic(folder / wanted.files[i], "");
      }
      EXPECT_EQ(row.present(folder), lacking == wanted.files.size()) << folder;
    }
  }
}

}  // namespace
}  // namespace moekit::data
