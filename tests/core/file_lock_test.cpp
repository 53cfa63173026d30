#include "moekit/core/file_lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <optional>

#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit {
namespace {
namespace fs = std::filesystem;

class FileLockTest : public testing::Test {
 protected:
  void TearDown() override { fs::remove(file_); }
  std::string refusal() {
    try {
      const FileLock lock(file_, "run a");
    } catch (const IoError& error) {
      return error.what();
    }
    return "";
  }
  fs::path file_ = fs::temp_directory_path() / concat("moekit-lock-", ::getpid());
};

TEST_F(FileLockTest, IsHeldByOneAndFreeAfterwards) {
  {
    FileLock first(file_, "run a");
    const FileLock moved(std::move(first));
    const std::string message = refusal();
    EXPECT_NE(message.find(concat("run a is in use by process ", ::getpid(), " on ")),
              std::string::npos)
        << message;
    EXPECT_NE(message.find(" since 2"), std::string::npos) << message;  // a year
  }
  EXPECT_EQ(refusal(), "");
}

TEST_F(FileLockTest, IsFreeWhenItsProcessIsKilled) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FileLock lock(file_, "run a");
    [[maybe_unused]] const auto written = ::write(ready[1], "x", 1);
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_NE(refusal().find(concat("process ", child)), std::string::npos);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(refusal(), "");
}

TEST_F(FileLockTest, NamesAFileThatCannotBeMade) {
  file_ = "/nonexistent/lock";
  EXPECT_NE(refusal().find("cannot open /nonexistent/lock: No such file"), std::string::npos);
}

}  // namespace
}  // namespace moekit
