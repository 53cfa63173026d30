#include "moekit/events/event_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <regex>

#include "moekit/core/error.h"
#include "moekit/events/record_file.h"

namespace moekit::events {
namespace fs = std::filesystem;
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::int64_t step_of(const Json& line) {
  MOEKIT_CHECK_FORMAT(line.is_object() && line.contains("step") && line["step"].is_number_integer(),
                      "events: a line of metrics needs a whole \"step\"");
  return line["step"].get<std::int64_t>();
}

/// The seconds in a file's name; TensorBoard reads the files of a folder in this order.
std::int64_t seconds_of(const fs::path& file) {
  return std::stoll(file.filename().string().substr(sizeof("events.out.tfevents.") - 1, 10));
}

/// Cuts a file behind its last event that agrees with the metrics. @param next  the first line that
/// no event was found for so far, counted on. @return whether nothing had to be cut
bool keep_agreeing(const fs::path& file, const std::vector<Json>& lines, std::size_t& next) {
  RecordReader reader(file);
  std::uint64_t keep = 0;
  while (const auto record = reader.next()) {
    const auto event = decode(*record);
    if (!event) break;
    if (event->figures) {
      const bool agrees = next < lines.size() && event->step == step_of(lines[next]) &&
                          *event->figures == figures_of(lines[next]);
      if (!agrees) break;
      ++next;
    }
    keep = reader.position();
  }
  if (keep == reader.size()) return true;
  std::error_code error;
  if (keep == 0) {
    fs::remove(file, error);
  } else {
    fs::resize_file(file, keep, error);
  }
  if (error) throw IoError(concat(file.string(), ": cannot cut it: ", error.message()));
  return false;
}

}  // namespace

std::vector<fs::path> list_event_files(const fs::path& folder) {
  static const std::regex kName("events\\.out\\.tfevents\\.[0-9]{10}\\.moekit");
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (std::regex_match(entry.path().filename().string(), kName)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

EventLog::EventLog(fs::path folder, const std::vector<Json>& lines) : folder_(std::move(folder)) {
  std::size_t next = 0;
  bool agree = true;
  for (const auto& file : list_event_files(folder_)) {
    if (agree) {
      agree = keep_agreeing(file, lines, next);
      continue;
    }
    std::error_code error;  // comes after a cut
    fs::remove(file, error);
    if (error) throw IoError(concat(file.string(), ": cannot remove it: ", error.message()));
  }
  for (; next < lines.size(); ++next) append(lines[next]);
}

EventLog::~EventLog() {
  if (fd_ >= 0) ::close(fd_);
}

void EventLog::append(const Json& line) {
  if (fd_ < 0) open(step_of(line));
  write({seconds_now(), step_of(line), {}, false, figures_of(line)});
}

void EventLog::open(std::int64_t step) {
  const auto files = list_event_files(folder_);
  auto seconds = static_cast<std::int64_t>(seconds_now());
  // After the others even when the clock stood still or went back.
  if (!files.empty()) seconds = std::max(seconds, seconds_of(files.back()) + 1);
  path_ = folder_ / fmt::format("events.out.tfevents.{:010}.moekit", seconds);
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) throw IoError(concat(path_.string(), ": ", std::strerror(errno)));
  write({seconds_now(), 0, "brain.Event:2"});
  write({seconds_now(), step, {}, true});
}

void EventLog::write(const Event& event) {
  const std::string record = frame_record(encode(event));
  for (std::size_t done = 0; done < record.size();) {
    const auto count = ::write(fd_, record.data() + done, record.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw IoError(concat(path_.string(), ": ", std::strerror(errno)));
    done += static_cast<std::size_t>(count);
  }
}

}  // namespace moekit::events
