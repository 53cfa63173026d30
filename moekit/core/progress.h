#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace moekit {

/// Progress on stderr: a line that rewrites itself on a terminal (steps, rate, loss, time left);
/// elsewhere one plain line at most every ten seconds. Does nothing when `quiet`.
class Progress {
 public:
  Progress(std::string label, std::int64_t total, bool quiet = false);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  /// @param done  steps done so far, of `total`. @param note  what stands behind, "loss 0.31".
  void update(std::int64_t done, const std::string& note = {});
  /// Starts counting the rate from here, after a resume.
  void start_at(std::int64_t done);

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  std::int64_t total_;
  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  std::int64_t first_ = 0;
  Clock::time_point started_;
  Clock::time_point shown_;
};

/// "3 min 20 s", "45 s", "2 h 5 min".
std::string format_duration(double seconds);

}  // namespace moekit
