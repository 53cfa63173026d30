#pragma once

#include <algorithm>
#include <ctime>
#include <limits>

namespace moekit {

/// How the work of `work(make(n))` grows when n becomes four times as large: 4 where it is linear,
/// 16 where it is quadratic. Processor time of this thread, the least of several runs each.
template <typename Make, typename Work>
double growth(int n, Make make, Work work) {
  const auto least = [&](const auto& input) {
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 5; ++i) {
      timespec begin{};
      timespec end{};
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
      work(input);
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
      best = std::min(best, static_cast<double>(end.tv_sec - begin.tv_sec) +
                                1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec));
    }
    return best;
  };
  const double small = least(make(n));
  return least(make(4 * n)) / small;
}

/// Between 4, linear, and 16, quadratic, with room for caches that the larger input leaves.
inline constexpr double kLinearGrowth = 11;

}  // namespace moekit
