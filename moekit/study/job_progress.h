#pragma once

#include <optional>
#include <string>
#include <vector>

#include "moekit/core/work_status.h"

namespace moekit::study {

/// How far one job of many is.
struct JobView {
  enum class State { kWaiting, kRunning, kEnded };
  std::string name;
  std::string kind;  ///< jobs of one kind take about as long
  State state = State::kWaiting;
  std::optional<WorkStatus> status;  ///< the last it told
};

/// Seconds until all jobs are done, `parallel` at a time: from the finished epochs of those that
/// run, and for those that wait from others of their kind, or of any. None while nothing is known.
std::optional<double> time_left(const std::vector<JobView>& jobs, int64_t parallel);

/// Which running job is shown first at that second of a steady clock; `describe` takes it modulo
/// their number.
std::size_t turn_at(double seconds);

/// "runs: 3/24, 12 min 4 s left | mnist/original/seed1: epoch 3/20, 2.1 s/epoch, loss 0.31 | ...".
/// @param failed  of the ended ones. @param columns  0: no limit; else as many running jobs as fit,
///                from the `turn`-th on, so that each has its turn
std::string describe(const std::vector<JobView>& jobs, int64_t failed, int64_t parallel,
                     std::size_t columns, std::size_t turn);

}  // namespace moekit::study
