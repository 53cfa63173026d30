#include "moekit/core/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace moekit {

double Summary::standard_error() const {
  return count == 0 ? 0 : std_dev / std::sqrt(static_cast<double>(count));
}

Summary summarize(std::vector<double> values) {
  Summary out;
  out.count = values.size();
  if (values.empty()) {
    out.mean = out.std_dev = out.median = out.min = out.max =
        std::numeric_limits<double>::quiet_NaN();
    return out;
  }
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  out.min = values.front();
  out.max = values.back();
  out.median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(n);
  if (n > 1) {
    double squares = 0;
    for (const double value : values) squares += (value - out.mean) * (value - out.mean);
    out.std_dev = std::sqrt(squares / static_cast<double>(n - 1));
  }
  return out;
}

}  // namespace moekit
