#include "moekit/study/job_progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace moekit::study {
namespace {

/// Seconds the whole of a job takes by what it told, or 0.
double whole_length(const WorkStatus& status) {
  return status.epoch_seconds > 0 ? status.epoch_seconds * static_cast<double>(status.epochs)
                                  : status.step_seconds * static_cast<double>(status.steps);
}

struct Mean {
  double sum = 0;
  int64_t count = 0;
  void add(double value) {
    sum += value;
    ++count;
  }
  double value() const { return count > 0 ? sum / static_cast<double>(count) : 0; }
};

std::string describe_job(const JobView& job) {
  if (!job.status) return job.name;
  const WorkStatus& status = *job.status;
  std::string text = fmt::format("{}: epoch {}/{}", job.name,
                                 std::min(status.epoch + 1, status.epochs), status.epochs);
  if (status.epoch_seconds > 0) {
    text += ", " + format_rate(status.epoch_seconds, "epoch");
  } else if (status.step_seconds > 0) {
    text += ", " + format_rate(status.step_seconds, "step");
  }
  return text + fmt::format(", loss {:.3g}", status.loss);
}

}  // namespace

std::optional<double> time_left(const std::vector<JobView>& jobs, int64_t parallel) {
  Mean all;
  std::map<std::string, Mean> by_kind;
  for (const auto& job : jobs) {
    const double length = job.status ? whole_length(*job.status) : 0;
    if (length <= 0) continue;
    all.add(length);
    by_kind[job.kind].add(length);
  }
  if (all.count == 0) return std::nullopt;
  double sum = 0;
  double longest = 0;
  for (const auto& job : jobs) {
    if (job.state == JobView::State::kEnded) continue;
    const auto& of_kind = by_kind[job.kind];
    double left = of_kind.count > 0 ? of_kind.value() : all.value();
    if (job.status && whole_length(*job.status) > 0) left = job.status->seconds_left;
    sum += left;
    longest = std::max(longest, left);
  }
  return std::max(sum / static_cast<double>(parallel), longest);
}

std::size_t turn_at(double seconds) {
  constexpr double kTurnSeconds = 3;  // long enough to read a line
  return static_cast<std::size_t>(seconds / kTurnSeconds);
}

std::string describe(const std::vector<JobView>& jobs, int64_t failed, int64_t parallel,
                     std::size_t columns, std::size_t turn) {
  std::vector<const JobView*> running;
  size_t ended = 0;
  for (const auto& job : jobs) {
    if (job.state == JobView::State::kRunning) running.push_back(&job);
    if (job.state == JobView::State::kEnded) ++ended;
  }
  std::string line = fmt::format("runs: {}/{}", ended, jobs.size());
  if (failed > 0) line += fmt::format(", {} failed", failed);
  if (const auto left = time_left(jobs, parallel)) line += ", " + format_duration(*left) + " left";
  for (size_t i = 0; i < running.size(); ++i) {
    const std::string more = " | " + describe_job(*running[(turn + i) % running.size()]);
    if (i > 0 && columns > 0 && line.size() + more.size() > columns) break;
    line += more;
  }
  return line;
}

}  // namespace moekit::study
