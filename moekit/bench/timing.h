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

/// Runs step() so many times, or until two seconds have passed, twice at least: memory is taken and
/// weights are seen.
template <typename Step>
void warm_up(std::int64_t runs, const Step& step) {
  constexpr double kSeconds = 2;
  const auto begin = std::chrono::steady_clock::now();
  for (std::int64_t run = 0; run < runs && (run < 2 || seconds_since(begin) < kSeconds); ++run) {
    step();
  }
}

/// Runs step() until there are enough, and adds the milliseconds of each.
template <typename Step>
void time_more(const Enough& enough, const Step& step, std::vector<double>& times) {
  const auto begin = std::chrono::steady_clock::now();
  for (int run = 0; run < enough.runs || seconds_since(begin) < enough.seconds; ++run) {
    const auto start = std::chrono::steady_clock::now();
    step();
    times.push_back(seconds_since(start) * 1e3);
  }
}

/// Runs step(0), step(1), ... until there are enough; milliseconds of each, sorted. The first
/// `uncounted` steps are not counted: memory is taken then.
template <typename Step>
std::vector<double> time_steps(const Enough& enough, std::int64_t uncounted, const Step& step) {
  std::int64_t turn = 0;
  for (; turn < uncounted; ++turn) step(turn);
  std::vector<double> times;
  time_more(
      enough, [&] { step(turn++); }, times);
  std::sort(times.begin(), times.end());
  return times;
}

}  // namespace moekit::bench
