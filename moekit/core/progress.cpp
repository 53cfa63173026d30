#include "moekit/core/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

namespace moekit {
namespace {

constexpr double kTerminalInterval = 0.2;  // seconds between two drawings
constexpr double kPlainInterval = 60.0;

/// The first columns of a line of UTF-8: one that wraps could not be drawn over.
std::string cut_to(const std::string& line, std::size_t columns) {
  std::size_t end = 0;
  std::size_t used = 0;
  while (end < line.size()) {
    const bool starts = (static_cast<unsigned char>(line[end]) & 0xC0) != 0x80;
    if (starts && used++ == columns) break;
    ++end;
  }
  return line.substr(0, end);
}

/// "3 steps", but "3 KiB": symbols have no plural.
std::string plural(std::string_view unit) {
  return unit.ends_with("iB") ? std::string(unit) : fmt::format("{}s", unit);
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written <= 0) return;  // progress is nothing to fail for
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::min(seconds, 1e15)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string format_rate(double seconds_each, std::string_view unit) {
  if (seconds_each <= 0) return "";
  const auto number = [](double value) {
    return fmt::format("{:.{}f}", value, value < 10 ? 1 : 0);
  };
  if (seconds_each < 1) return fmt::format("{} {}/s", number(1 / seconds_each), plural(unit));
  if (seconds_each < 60) return fmt::format("{} s/{}", number(seconds_each), unit);
  return fmt::format("{}/{}", format_duration(seconds_each), unit);
}

ProgressLine::ProgressLine(bool quiet, int fd, SecondsClock clock)
    : quiet_(quiet),
      fd_(fd),
      clock_(std::move(clock)),
      terminal_(::isatty(fd) == 1),
      shown_(clock_()) {}

ProgressLine::~ProgressLine() {
  if (drawn_ && terminal_) write_all(fd_, "\r\033[K");
}

bool ProgressLine::is_due() const {
  return !quiet_ && clock_() - shown_ >= (terminal_ ? kTerminalInterval : kPlainInterval);
}

std::size_t ProgressLine::width() const {
  winsize size{};
  if (!terminal_ || ::ioctl(fd_, TIOCGWINSZ, &size) != 0 || size.ws_col < 2) return 0;
  return size.ws_col - 1U;  // a full line would wrap on some terminals
}

void ProgressLine::show(const std::string& line) {
  if (!is_due()) return;
  shown_ = clock_();
  const std::size_t columns = width();
  write_all(fd_, terminal_ ? "\r" + (columns > 0 ? cut_to(line, columns) : line) + "\033[K"
                           : line + "\n");
  drawn_ = true;
}

Progress::Progress(std::string label, std::int64_t total, std::string unit)
    : label_(std::move(label)), total_(total), unit_(std::move(unit)), started_(steady_seconds()) {}

void Progress::update(std::int64_t done, const std::string& note) {
  if (!line_.is_due()) return;
  std::string line = fmt::format("{}: {}{} {}", label_, done,
                                 total_ > 0 ? fmt::format("/{}", total_) : "", plural(unit_));
  const double elapsed = steady_seconds() - started_;
  if (done > 0 && elapsed > 0) {
    const double each = elapsed / static_cast<double>(done);
    line += fmt::format(", {}", format_rate(each, unit_));
    if (total_ > done) {
      line += fmt::format(", {} left", format_duration(each * static_cast<double>(total_ - done)));
    }
  }
  line_.show(note.empty() ? line : fmt::format("{}, {}", line, note));
}

}  // namespace moekit
