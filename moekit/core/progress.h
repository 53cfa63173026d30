#pragma once

#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace moekit {

/// Seconds on a clock that only goes forward.
using SecondsClock = std::function<double()>;
double steady_seconds();

/// "3 min 20 s", "45 s", "2 h 5 min".
std::string format_duration(double seconds);

/// A rate in the unit that makes it a number from 1 on: "12 steps/s", "3.4 s/step",
/// "2 min 10 s/step". @param seconds_each  of one step; @param unit  "step"
std::string format_rate(double seconds_each, std::string_view unit);

/// A line of progress on stderr: on a terminal one that is drawn anew, cut to its width, and taken
/// away at the end; elsewhere at most one line a minute.
class ProgressLine {
 public:
  /// @param quiet  shows nothing. @param fd, clock  for tests
  explicit ProgressLine(bool quiet, int fd = STDERR_FILENO, SecondsClock clock = steady_seconds);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();
  /// Whether show() would show something now: to ask before a line is put together.
  bool is_due() const;
  void show(const std::string& line);
  /// Columns a line may have; 0: no limit.
  std::size_t width() const;

 private:
  bool quiet_;
  int fd_;
  SecondsClock clock_;
  bool terminal_;
  bool drawn_ = false;
  double shown_;
};

/// Progress of work that is counted: "bench: 3/20 measurements, 1.2 s/measurement, 20 s left".
class Progress {
 public:
  /// @param total  0: not known. @param unit  of `total`, in the singular: "measurement", "KiB"
  Progress(std::string label, std::int64_t total, std::string unit);
  /// @param done  of `total`. @param note  what stands behind
  void update(std::int64_t done, const std::string& note = {});

 private:
  std::string label_;
  std::int64_t total_;
  std::string unit_;
  ProgressLine line_{/*quiet=*/false};
  double started_;
};

}  // namespace moekit
