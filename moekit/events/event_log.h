#pragma once

#include <filesystem>
#include <vector>

#include "moekit/events/event.h"

namespace moekit::events {

/// The event files of a folder, oldest first.
std::vector<std::filesystem::path> list_event_files(const std::filesystem::path& folder);

/// What TensorBoard shows of a run: one event a line of metrics, in
/// FOLDER/events.out.tfevents.SECONDS.moekit, and one more such file each time the run goes on.
/// All files together hold each line once, whatever stopped the run before: at the start they are
/// cut behind the last event that agrees with the metrics, and lines that are missing are written
/// anew. A TensorBoard that has read further drops that by the session start in the new file.
class EventLog {
 public:
  /// @param lines  metrics the run has so far; each has a "step"
  /// @throws IoError naming the path when a file cannot be read, cut or made; FormatError for a
  /// line without a step.
  EventLog(std::filesystem::path folder, const std::vector<Json>& lines);
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;
  ~EventLog();

  /// Written at once. @throws IoError naming the path and the system's reason.
  void append(const Json& line);

 private:
  void open(std::int64_t step);
  void write(const Event& event);

  std::filesystem::path folder_;
  std::filesystem::path path_;  ///< empty until the first event
  int fd_ = -1;
};

}  // namespace moekit::events
