#include "moekit/study/jobs.h"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <set>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/study/job_progress.h"

namespace moekit::study {
namespace {

pid_t start(const Job& job) {
  create_folders(job.log.parent_path());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, job.log.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  std::vector<char*> arguments;
  for (const auto& part : job.command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  // A process group of its own: Ctrl-C at the terminal reaches the job once, through us.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t pid = 0;
  const int error =
      posix_spawn(&pid, arguments[0], &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw IoError(concat("cannot start ", job.command[0], ": ", std::strerror(error)));
  }
  return pid;
}

/// The last line a failed job wrote: the error it ended with.
std::string last_line(const std::filesystem::path& log) {
  std::string text = read_file(log, 1 << 26);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const auto cut = text.rfind('\n');
  return cut == std::string::npos ? text : text.substr(cut + 1);
}

/// Why a job failed: what it said last, or by which signal it ended.
std::string how_it_ended(int status, const std::string& said) {
  if (WIFSIGNALED(status)) {
    return concat("killed by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
  }
  return said.empty() ? concat("ended with code ", WEXITSTATUS(status), " and said nothing") : said;
}

/// Jobs on their way: waiting, running, done or failed.
class JobRunner {
 public:
  JobRunner(const std::vector<Job>& jobs, int64_t parallel, bool quiet)
      : jobs_(jobs), parallel_(static_cast<size_t>(parallel)), line_(quiet) {
    for (size_t i = 0; i < jobs.size(); ++i) {
      views_.push_back({jobs[i].name, jobs[i].kind, JobView::State::kWaiting, {}});
      if (jobs[i].done) {
        done_.insert(jobs[i].name);
        views_.back().state = JobView::State::kEnded;
      } else {
        waiting_.insert(i);
      }
    }
  }

  Failures run() {
    while (!waiting_.empty() || !running_.empty()) {
      if (interrupted() && !signalled_) stop();
      start_ready();
      if (!running_.empty()) look_for_end();
    }
    return std::move(failures_);
  }

 private:
  /// Passes the user's interrupt on; nothing more is started.
  void stop() {
    signalled_ = true;
    for (const auto& [pid, job] : running_) ::kill(pid, SIGINT);
    for (const size_t i : waiting_) fail(i, "interrupted");
    waiting_.clear();
  }

  /// Starts what may be started and leaves out what waits for a failed job.
  void start_ready() {
    for (auto it = waiting_.begin(); it != waiting_.end() && running_.size() < parallel_;) {
      const Job& job = jobs_[*it];
      bool ready = true;
      std::string blocked;
      for (const auto& name : job.after) {
        ready = ready && done_.count(name) == 1;
        if (failures_.count(name) == 1) blocked = name;
      }
      if (!blocked.empty()) {
        fail(*it, concat("needs ", blocked, ", which failed"));
        it = waiting_.erase(it);
      } else if (ready) {
        remove_status(job);  // of a job that was killed
        running_[start(job)] = *it;
        views_[*it].state = JobView::State::kRunning;
        it = waiting_.erase(it);
      } else {
        ++it;
      }
    }
  }

  /// Takes in one job that has ended, or waits a moment.
  void look_for_end() {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid <= 0) {
      ::usleep(50'000);
      show_progress();
      return;
    }
    const auto found = running_.find(pid);
    if (found == running_.end()) return;
    const Job& job = jobs_[found->second];
    look_at(found->second);
    remove_status(job);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      done_.insert(job.name);
      views_[found->second].state = JobView::State::kEnded;
    } else {
      fail(found->second, how_it_ended(status, last_line(job.log)));
    }
    running_.erase(found);
  }

  void fail(size_t job, std::string reason) {
    failures_[jobs_[job].name] = std::move(reason);
    views_[job].state = JobView::State::kEnded;
  }

  /// Takes in what a job last told of itself.
  void look_at(size_t job) {
    if (jobs_[job].status.empty()) return;
    if (auto status = read_status(jobs_[job].status)) views_[job].status = status;
  }

  static void remove_status(const Job& job) {
    std::error_code error;
    if (!job.status.empty()) std::filesystem::remove(job.status, error);
  }

  void show_progress() {
    if (!line_.is_due()) return;
    for (const auto& [pid, job] : running_) look_at(job);
    line_.show(describe(views_, static_cast<int64_t>(failures_.size()),
                        static_cast<int64_t>(parallel_), line_.width(), turn_at(steady_seconds())));
  }

  const std::vector<Job>& jobs_;
  size_t parallel_;
  ProgressLine line_;
  std::vector<JobView> views_;  ///< one a job
  std::set<size_t> waiting_;
  std::map<pid_t, size_t> running_;
  std::set<std::string> done_;
  Failures failures_;
  bool signalled_ = false;
};

/// @throws ArgumentError unless every job stands behind those it waits for
void check_order(const std::vector<Job>& jobs) {
  std::set<std::string> known;
  for (const auto& job : jobs) {
    for (const auto& name : job.after) {
      MOEKIT_CHECK(known.count(name) == 1, "run_jobs: ", job.name, " waits for ", name,
                   ", which is not before it");
    }
    known.insert(job.name);
  }
}

}  // namespace

int64_t usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

Failures run_jobs(const std::vector<Job>& jobs, int64_t parallel, bool quiet) {
  MOEKIT_CHECK(parallel >= 1, "run_jobs: needs at least one job at a time; got ", parallel);
  check_order(jobs);
  return JobRunner(jobs, parallel, quiet).run();
}

}  // namespace moekit::study
