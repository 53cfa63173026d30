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

TEST_F(FilesTest, AFileWrittenInPiecesAppearsAtTheCommit) {
  {
    AtomicFile file(folder_ / "f");
    file.append("lost");
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 0);
  AtomicFile file(folder_ / "f");
  file.append("ab");
  file.append("");
  file.append(std::string("c\0", 2));
  EXPECT_FALSE(fs::exists(folder_ / "f"));
  file.commit();
  EXPECT_EQ(read_file(folder_ / "f"), std::string("abc\0", 4));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
  EXPECT_THROW(file.append("d"), IoError);
  EXPECT_THROW(file.commit(), IoError);
}

TEST_F(FilesTest, AFailedCommitRemovesTheTemporaryFile) {
  fs::create_directories(folder_ / "f" / "in the way");
  AtomicFile file(folder_ / "f");
  file.append("x");
  try {
    file.commit();
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find((folder_ / "f").string()), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(folder_ / "f.tmp"));
  EXPECT_TRUE(fs::exists(folder_ / "f" / "in the way"));
}

TEST_F(FilesTest, AMappedFileIsTheFilesBytesAndKeepsWritesToItself) {
  write_file_atomic(folder_ / "f", "abc");
  const MappedFile file(folder_ / "f");
  EXPECT_EQ(std::string_view(file.data(), file.size()), "abc");
  file.data()[1] = 'X';
  EXPECT_EQ(std::string_view(file.data(), file.size()), "aXc");
  EXPECT_EQ(read_file(folder_ / "f"), "abc");
  write_file_atomic(folder_ / "empty", "");
  EXPECT_EQ(MappedFile(folder_ / "empty").size(), 0U);
  EXPECT_THROW(MappedFile(folder_ / "none"), IoError);
  EXPECT_THROW(MappedFile{folder_}, IoError);
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
