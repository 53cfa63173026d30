#include "moekit/core/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>

#include <algorithm>
#include <array>

namespace moekit {
namespace {

TEST(FormatDuration, ChoosesTheUnit) {
  EXPECT_EQ(format_duration(45.2), "45 s");
  EXPECT_EQ(format_duration(200), "3 min 20 s");
  EXPECT_EQ(format_duration(7500), "2 h 5 min");
}

TEST(FormatRate, ChoosesTheUnitThatMakesANumberFromOneOn) {
  EXPECT_EQ(format_rate(0.001, "step"), "1000 steps/s");
  EXPECT_EQ(format_rate(0.4, "step"), "2.5 steps/s");
  EXPECT_EQ(format_rate(3.44, "epoch"), "3.4 s/epoch");
  EXPECT_EQ(format_rate(42, "epoch"), "42 s/epoch");
  EXPECT_EQ(format_rate(130, "run"), "2 min 10 s/run");
  EXPECT_EQ(format_rate(0.01, "KiB"), "100 KiB/s");
  EXPECT_EQ(format_rate(0, "step"), "");
}

/// Everything that can be read without waiting.
std::string drain(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  std::string out;
  std::array<char, 4096> buffer{};
  for (ssize_t n = 0; (n = ::read(fd, buffer.data(), buffer.size())) > 0;) {
    out.append(buffer.data(), static_cast<size_t>(n));
  }
  return out;
}

TEST(ProgressLine, IsOneLineAMinuteWhereThereIsNoTerminal) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  double now = 100;
  {
    ProgressLine line(false, pipe[1], [&] { return now; });
    for (int second = 0; second < 150; ++second, now += 1) line.show("at " + std::to_string(now));
  }
  EXPECT_EQ(drain(pipe[0]), "at 160.000000\nat 220.000000\n");
  {
    ProgressLine line(true, pipe[1], [&] { return now; });
    for (int second = 0; second < 150; ++second, now += 1) line.show("never");
  }
  EXPECT_EQ(drain(pipe[0]), "");
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST(ProgressLine, IsDrawnOverAndCutOnATerminalAndGoneAtTheEnd) {
  winsize size{};
  size.ws_col = 10;
  size.ws_row = 5;
  int master = 0;
  int terminal = 0;
  ASSERT_EQ(::openpty(&master, &terminal, nullptr, nullptr, &size), 0);
  double now = 0;
  {
    ProgressLine line(false, terminal, [&] { return now; });
    line.show("too early");
    now = 1;
    line.show("äbcdefghijklm");  // 9 columns remain, of which the first takes two bytes
    now = 1.1;
    line.show("too early");
    now = 2;
    line.show("short");
  }
  EXPECT_EQ(drain(master), "\räbcdefghi\033[K\rshort\033[K\r\033[K");
  ::close(terminal);
  ::close(master);
}

}  // namespace
}  // namespace moekit
