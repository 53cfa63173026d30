#include "moekit/merge/simplex.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "moekit/core/error.h"

namespace moekit::merge {

std::vector<double> project_to_simplex(const std::vector<double>& point) {
  MOEKIT_CHECK(!point.empty(), "project_to_simplex: needs at least one number");
  for (const double value : point) {
    MOEKIT_CHECK(std::isfinite(value), "project_to_simplex: numbers must be finite; got ", value);
  }
  // Numbers near their largest one: of huge ones the sum less one would be lost to rounding.
  const double largest = *std::max_element(point.begin(), point.end());
  std::vector<double> sorted;
  for (const double value : point) sorted.push_back(value - largest);
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  double sum = 0;
  double shift = 0;
  for (size_t j = 0; j < sorted.size(); ++j) {
    sum += sorted[j];
    const double candidate = (1 - sum) / static_cast<double>(j + 1);
    if (sorted[j] + candidate <= 0) break;
    shift = candidate;
  }
  std::vector<double> out;
  for (const double value : point) out.push_back(std::max(value - largest + shift, 0.0));
  return out;
}

}  // namespace moekit::merge
