#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "moekit/core/progress.h"

namespace moekit {

/// Where work of epochs of steps stands: what a run shows of itself, and tells whoever waits for
/// it in a file.
struct WorkStatus {
  std::int64_t epoch = 0;   ///< finished epochs
  std::int64_t epochs = 0;  ///< in all
  std::int64_t step = 0;    ///< finished steps
  std::int64_t steps = 0;   ///< in all
  double loss = 0;
  double step_seconds = 0;   ///< of one step; 0: not known yet
  double epoch_seconds = 0;  ///< of one epoch, with all that is done between two; 0: not known yet
  double seconds_left = 0;   ///< 0: not known yet, or none

  template <typename Field>
  void visit(Field&& field) {
    field("epoch", epoch, "");
    field("epochs", epochs, "");
    field("step", step, "");
    field("steps", steps, "");
    field("loss", loss, "");
    field("step_seconds", step_seconds, "");
    field("epoch_seconds", epoch_seconds, "");
    field("seconds_left", seconds_left, "");
  }
};

/// "epoch 3/20, step 412/2000, 123 steps/s, loss 0.3121, 13 s left"
std::string describe(const WorkStatus& status);

/// As JSON under this name, whole at every moment, but not synced: it is out of date soon.
/// @throws IoError naming the path
void write_status(const std::filesystem::path& path, const WorkStatus& status);

/// None while there is none that can be read.
std::optional<WorkStatus> read_status(const std::filesystem::path& path);

/// Tells from the time that steps and epochs took how long the rest will take.
class Pace {
 public:
  Pace(std::int64_t steps, std::int64_t steps_per_epoch, SecondsClock clock = steady_seconds);
  /// Counts from here, as after a resume.
  void start_at(std::int64_t step);
  /// An epoch and what follows it is done. Tests take time, too: once there is a whole epoch, the
  /// time left is told from whole epochs.
  void end_epoch(std::int64_t step);
  WorkStatus status(std::int64_t epoch, std::int64_t step, double loss) const;

 private:
  std::int64_t steps_;
  std::int64_t steps_per_epoch_;
  SecondsClock clock_;
  double started_;
  std::int64_t first_ = 0;
  double epoch_ended_ = 0;
  std::int64_t epoch_end_ = 0;  ///< step
};

}  // namespace moekit
