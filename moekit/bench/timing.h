#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace moekit::bench {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Seconds of the fastest of `tries` runs.
template <typename Work>
double fastest(int tries, const Work& work) {
  double best = 1e30;
  for (int t = 0; t < tries; ++t) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, seconds_since(start));
  }
  return best;
}

/// Of times in any order, at least one; the upper of two middle ones.
inline double median(std::vector<double> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

/// When there are enough runs: both must be reached.
struct Enough {
  int runs = 20;
  double seconds = 1;
};

/// Runs step(0), step(1), ... until there are enough; milliseconds of each, sorted. The first
/// `warm_up` steps are not counted: memory is taken then.
template <typename Step>
std::vector<double> time_steps(const Enough& enough, std::int64_t warm_up, const Step& step) {
  for (std::int64_t turn = 0; turn < warm_up; ++turn) step(turn);
  std::vector<double> times;
  const auto begin = std::chrono::steady_clock::now();
  while (static_cast<int>(times.size()) < enough.runs || seconds_since(begin) < enough.seconds) {
    const auto start = std::chrono::steady_clock::now();
    step(static_cast<std::int64_t>(times.size()) + warm_up);
    times.push_back(seconds_since(start) * 1e3);
  }
  std::sort(times.begin(), times.end());
  return times;
}

}  // namespace moekit::bench
