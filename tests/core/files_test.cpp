#include "moekit/core/files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <limits>
#include <thread>

#include "moekit/core/error.h"
#include "moekit/core/memory.h"

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

TEST_F(FilesTest, ReadsAPipeToItsEndAndADeviceToTheLimit) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const std::string bytes(300'000, 'x');  // more than a pipe holds
  std::thread writer([&] { std::ofstream(pipe) << bytes; });
  EXPECT_EQ(read_file(pipe, 1 << 20, FileKind::kAny), bytes);
  writer.join();
  EXPECT_THROW(read_file("/dev/zero", 1 << 20, FileKind::kAny), FormatError);
  EXPECT_EQ(read_file("/dev/null", 1, FileKind::kAny), "");
  EXPECT_FALSE(read_file("/proc/self/status").empty());  // its size is given as 0
}

TEST_F(FilesTest, DoesNotWaitForAPipeWhereAFileIsWanted) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const fs::path& path : {pipe, fs::path("/dev/zero"), fs::path("/dev/null")}) {
    try {
      read_file(path, 1 << 20);
      ADD_FAILURE() << path;
    } catch (const IoError& error) {
      EXPECT_NE(std::string(error.what()).find("cannot read " + path.string() + ": it is a "),
                std::string::npos)
          << error.what();
    }
  }
}

TEST_F(FilesTest, RefusesALoopOfLinksAndALinkToNothing) {
  fs::create_symlink(folder_ / "b", folder_ / "a");
  fs::create_symlink(folder_ / "a", folder_ / "b");
  fs::create_symlink(folder_ / "nothing", folder_ / "c");
  EXPECT_THROW(read_file(folder_ / "a"), IoError);
  EXPECT_THROW(read_file(folder_ / "c"), IoError);
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
  AtomicFile file(folder_ / "f");
  file.append("x");
  fs::create_directories(folder_ / "f" / "in the way");
  try {
    file.commit();
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find((folder_ / "f").string()), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(folder_ / "f.tmp"));
  EXPECT_TRUE(fs::exists(folder_ / "f" / "in the way"));
}

TEST_F(FilesTest, OnlyRegularFilesAreReplaced) {
  const auto refusal = [](const fs::path& path) -> std::string {
    try {
      write_file_atomic(path, "new");
    } catch (const IoError& error) {
      return error.what();
    }
    return "no error";
  };
  const auto refused = [&](const char* name, const char* why) {
    const fs::path path = folder_ / name;
    struct stat before {};
    ASSERT_EQ(::lstat(path.c_str(), &before), 0);
    EXPECT_EQ(refusal(path), concat("cannot write ", path.string(), ": ", why));
    struct stat after {};
    ASSERT_EQ(::lstat(path.c_str(), &after), 0);
    EXPECT_EQ(before.st_ino, after.st_ino);
    EXPECT_FALSE(fs::exists(path.string() + ".tmp"));
  };
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  refused("pipe", "it is a pipe");
  fs::create_directories(folder_ / "folder");
  refused("folder", "it is a folder");
  fs::create_symlink("nowhere", folder_ / "dangling");
  refused("dangling", "it is a link that leads nowhere");
  EXPECT_FALSE(fs::exists(folder_ / "nowhere"));
  fs::create_symlink("loop", folder_ / "loop");
  refused("loop", "Too many levels of symbolic links");
  fs::create_symlink("/dev/null", folder_ / "null");
  refused("null", "it is a device");
  EXPECT_EQ(refusal("/dev/null"), "cannot write /dev/null: it is a device");
  EXPECT_EQ(refusal("/dev/full"), "cannot write /dev/full: it is a device");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(FilesTest, AWriteThroughALinkReplacesTheFileAndKeepsTheLink) {
  fs::create_directories(folder_ / "there");
  write_file_atomic(folder_ / "there" / "f", "old");
  fs::create_symlink("there/f", folder_ / "link");
  fs::create_symlink("link", folder_ / "link to it");
  write_file_atomic(folder_ / "link to it", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link to it"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_file(folder_ / "there" / "f"), "new");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 3);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "there"), {}), 1);
}

TEST_F(FilesTest, WhatIsInTheTemporaryFilesPlaceIsNotWrittenTo) {
  write_file_atomic(folder_ / "victim", "safe");
  fs::create_symlink("victim", folder_ / "f.tmp");
  EXPECT_THROW(write_file_atomic(folder_ / "f", "x"), IoError);
  EXPECT_EQ(read_file(folder_ / "victim"), "safe");
  fs::remove(folder_ / "f.tmp");
  ASSERT_EQ(::mkfifo((folder_ / "f.tmp").c_str(), 0600), 0);
  EXPECT_THROW(write_file_atomic(folder_ / "f", "x"), IoError);  // and does not wait
  fs::remove(folder_ / "f.tmp");
  std::ofstream(folder_ / "f.tmp") << "left by a killed process";
  write_file_atomic(folder_ / "f", "x");
  EXPECT_EQ(read_file(folder_ / "f"), "x");
}

TEST_F(FilesTest, AFolderIsNotWrittenOverAFileOrLink) {
  write_file_atomic(folder_ / "f", "x");
  EXPECT_THROW(FolderTransaction{folder_ / "f"}, IoError);
  EXPECT_EQ(read_file(folder_ / "f"), "x");
  fs::create_directories(folder_ / "real");
  fs::create_symlink("real", folder_ / "link");
  EXPECT_THROW(FolderTransaction{folder_ / "link"}, IoError);
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
}

TEST(Memory, AnArrayBeyondWhatIsFreeIsRefusedInWords) {
  EXPECT_GT(available_memory(), uint64_t{1} << 20);
  EXPECT_EQ(memory_shortage({1000, 1000}, 4), "");
  EXPECT_EQ(memory_shortage({1 << 30, 0}, 8), "");
  // No product of sizes overflows.
  const int64_t most = std::numeric_limits<int64_t>::max();
  const auto text = memory_shortage({most, most, most}, 8);
  EXPECT_NE(text.find("of 8 byte(s) take "), std::string::npos) << text;
  EXPECT_NE(text.find(" GB of memory are free"), std::string::npos) << text;
  rlimit before{};
  ::getrlimit(RLIMIT_AS, &before);
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const uint64_t room = uint64_t{64} << 20;
  const rlimit little{pages * 4096 + room, before.rlim_max};
  ::setrlimit(RLIMIT_AS, &little);
  const uint64_t left = available_memory();
  ::setrlimit(RLIMIT_AS, &before);
  EXPECT_LE(left, room);
  EXPECT_GT(left, room / 2);
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

TEST_F(FilesTest, AFolderIsReplacedAndLeavesNothingBeside) {
  for (const char* text : {"old", "new"}) {
    FolderTransaction transaction(folder_ / "t");
    write_file_atomic(transaction.path() / text, text);
    transaction.commit();
  }
  EXPECT_EQ(read_file(folder_ / "t" / "new"), "new");
  EXPECT_FALSE(fs::exists(folder_ / "t" / "old"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(FilesTest, ANewFolderTouchesNothingThatIsThere) {
  fs::create_directories(folder_ / "t.tmp");
  write_file_atomic(folder_ / "t.tmp" / "mine", "kept");
  {
    NewFolder given_up(folder_ / "t");
    write_file_atomic(given_up.path() / "f", "1");
    NewFolder other(folder_ / "t");  // at the same time, as another process may
    EXPECT_NE(other.path(), given_up.path());
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
  NewFolder first(folder_ / "t" / "");  // as shells complete it
  NewFolder second(folder_ / "t");
  write_file_atomic(first.path() / "f", "first");
  first.commit();
  EXPECT_THROW(second.commit(), IoError);
  EXPECT_EQ(read_file(folder_ / "t" / "f"), "first");
  EXPECT_EQ(read_file(folder_ / "t.tmp" / "mine"), "kept");
}

TEST_F(FilesTest, ANewFolderSaysBeforehandWhyItCannotBe) {
  write_file_atomic(folder_ / "f", "x");
  EXPECT_EQ(NewFolder::why_not(folder_ / "f"), "something of that name is there already");
  EXPECT_EQ(NewFolder::why_not(folder_), "something of that name is there already");
  fs::create_symlink("nowhere", folder_ / "dangling");
  EXPECT_EQ(NewFolder::why_not(folder_ / "dangling"), "something of that name is there already");
  EXPECT_NE(NewFolder::why_not(folder_ / "f" / "t").find("is no folder"), std::string::npos);
  EXPECT_EQ(NewFolder::why_not(folder_ / "a" / "b" / "t"), "");
  EXPECT_THROW(NewFolder(folder_ / "f"), IoError);
  NewFolder deep(folder_ / "a" / "b" / "t");
  deep.commit();
  EXPECT_TRUE(fs::is_directory(folder_ / "a" / "b" / "t"));
}

TEST_F(FilesTest, AFolderIsRemovedUnderAnotherName) {
  fs::create_directories(folder_ / "a" / "b");
  write_file_atomic(folder_ / "a" / "b" / "f", "1");
  fs::create_directories(folder_ / "a.tmp");  // left by one that died
  remove_folder(folder_ / "a");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 0);
  EXPECT_THROW(remove_folder(folder_ / "a"), IoError);
}

}  // namespace
}  // namespace moekit
