#include "moekit/core/work_status.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "moekit/core/error.h"
#include "moekit/core/json.h"
#include "moekit/core/schema.h"

namespace moekit {

std::string describe(const WorkStatus& status) {
  std::string text =
      fmt::format("epoch {}/{}", std::min(status.epoch + 1, status.epochs), status.epochs);
  if (status.steps > status.epochs) text += fmt::format(", step {}/{}", status.step, status.steps);
  if (status.step_seconds > 0) text += ", " + format_rate(status.step_seconds, "step");
  text += fmt::format(", loss {:.4g}", status.loss);
  if (status.seconds_left > 0) text += ", " + format_duration(status.seconds_left) + " left";
  return text;
}

void write_status(const std::filesystem::path& path, const WorkStatus& status) {
  const std::string temporary = path.string() + ".tmp";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out << to_json(status).dump() << "\n";
  out.close();
  if (!out || std::rename(temporary.c_str(), path.c_str()) != 0) {
    throw IoError(concat("cannot write ", path.string(), ": ", std::strerror(errno)));
  }
}

std::optional<WorkStatus> read_status(const std::filesystem::path& path) {
  try {
    WorkStatus status;
    bind_state(read_json(path), path.string(), status);
    return status;
  } catch (const Error&) {  // not written yet, or by something else
    return std::nullopt;
  }
}

Pace::Pace(std::int64_t steps, std::int64_t steps_per_epoch, SecondsClock clock)
    : steps_(steps),
      steps_per_epoch_(steps_per_epoch),
      clock_(std::move(clock)),
      started_(clock_()) {}

void Pace::start_at(std::int64_t step) {
  started_ = clock_();
  first_ = epoch_end_ = step;
}

void Pace::end_epoch(std::int64_t step) {
  epoch_ended_ = clock_();
  epoch_end_ = step;
}

WorkStatus Pace::status(std::int64_t epoch, std::int64_t step, double loss) const {
  WorkStatus status;
  status.epoch = epoch;
  status.epochs = (steps_ + steps_per_epoch_ - 1) / steps_per_epoch_;
  status.step = step;
  status.steps = steps_;
  status.loss = loss;
  if (step <= first_) return status;
  status.step_seconds = (clock_() - started_) / static_cast<double>(step - first_);
  double each = status.step_seconds;
  if (epoch_end_ > first_) {
    each = (epoch_ended_ - started_) / static_cast<double>(epoch_end_ - first_);
    status.epoch_seconds = each * static_cast<double>(steps_per_epoch_);
  }
  status.seconds_left = each * static_cast<double>(steps_ - step);
  return status;
}

}  // namespace moekit
