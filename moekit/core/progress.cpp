#include "moekit/core/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace moekit {
namespace {
constexpr double kTerminalInterval = 0.2;  // seconds between two drawings
constexpr double kPlainInterval = 10.0;
}  // namespace

std::string format_duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(std::string label, std::int64_t total, bool quiet)
    : label_(std::move(label)),
      total_(total),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      started_(Clock::now()),
      shown_(started_) {}

Progress::~Progress() {
  if (drawn_ && terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::start_at(std::int64_t done) {
  first_ = done;
  started_ = Clock::now();
}

void Progress::update(std::int64_t done, const std::string& note) {
  if (quiet_) return;
  const auto now = Clock::now();
  const double since = std::chrono::duration<double>(now - shown_).count();
  if (since < (terminal_ ? kTerminalInterval : kPlainInterval)) return;
  shown_ = now;
  const double elapsed = std::chrono::duration<double>(now - started_).count();
  const double rate = elapsed > 0 ? static_cast<double>(done - first_) / elapsed : 0;
  const std::string left =
      rate > 0 ? format_duration(static_cast<double>(total_ - done) / rate) + " left" : "";
  const std::string line = fmt::format("{}: {}/{}  {:.1f} steps/s  {}{}{}", label_, done, total_,
                                       rate, note, note.empty() ? "" : "  ", left);
  fmt::print(stderr, "{}{}{}", terminal_ ? "\r" : "", line, terminal_ ? "\033[K" : "\n");
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace moekit
