#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace moekit::study {

/// A command to be run once others are done.
struct Job {
  std::string name;
  std::vector<std::string> command;  ///< program and arguments
  std::vector<std::string> after;    ///< names of jobs that must have succeeded
  std::filesystem::path log;         ///< takes the command's stdout and stderr
  /// Where the command tells how far it is (see core/work_status.h); removed when it ends.
  std::filesystem::path status = {};
  std::string kind = {};  ///< jobs of one kind take about as long
  bool done = false;      ///< before: it is not started, and counts as succeeded
};

/// Names of jobs that failed, or were left out because one before them failed, with the reason.
using Failures = std::map<std::string, std::string>;

/// Processors that this process may run on, at least 1: what a container or `taskset` leaves it.
int64_t usable_processors();

/// Runs all jobs as processes of their own, `parallel` at a time, in the order given as far as
/// `after` allows. Stops starting new ones and passes SIGINT on when the user interrupts.
/// Progress on stderr: epoch, rate and loss of the jobs that run, and the time left in all.
/// @param quiet  no progress
/// @throws ArgumentError when `after` names no job of the list, or in a circle.
Failures run_jobs(const std::vector<Job>& jobs, int64_t parallel, bool quiet);

}  // namespace moekit::study
