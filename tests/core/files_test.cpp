#include "moekit/core/files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "moekit/core/error.h"

namespace moekit {
namespace {
namespace fs = std::filesystem;

class FilesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              concat("moekit-files-", ::getpid(), "-",
                     testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(FilesTest, WritesAndReadsBackAnyBytes) {
  const std::string bytes("a\0b\n", 4);
  write_file_atomic(folder_ / "f", bytes);
  EXPECT_EQ(read_file(folder_ / "f"), bytes);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(FilesTest, AFailedWriteLeavesTheOldFileAndNoOther) {
  write_file_atomic(folder_ / "f", "old");
  // A limit on file sizes stands for a full disk: write() fails in the middle.
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(write_file_atomic(folder_ / "f", std::string(5000, 'x')), IoError);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_file(folder_ / "f"), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(FilesTest, RefusesAMissingFileAFolderAndATooLargeFile) {
  EXPECT_THROW(read_file(folder_ / "none"), IoError);
  EXPECT_THROW(read_file(folder_), IoError);
  write_file_atomic(folder_ / "f", "12345");
  EXPECT_THROW(read_file(folder_ / "f", 4), FormatError);
  EXPECT_THROW(write_file_atomic(folder_ / "no" / "f", "x"), IoError);
}

TEST_F(FilesTest, AFolderAppearsWholeOrNotAtAll) {
  {
    FolderTransaction transaction(folder_ / "t");
    write_file_atomic(transaction.path() / "f", "1");
    EXPECT_FALSE(fs::exists(folder_ / "t"));
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 0);
  FolderTransaction transaction(folder_ / "t");
  write_file_atomic(transaction.path() / "f", "2");
  transaction.commit();
  EXPECT_EQ(read_file(folder_ / "t" / "f"), "2");
}

}  // namespace
}  // namespace moekit
