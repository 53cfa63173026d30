#include "moekit/merge/aggregators/distance_softmax.h"

#include <algorithm>

namespace moekit::merge {

Mixture DistanceSoftmax::mix(const WeightRows& rows) const {
  auto distances = squared_distances(rows, 0, rows.offsets.back());
  auto sorted = distances;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  const double median =
      sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  if (median == 0) return {shares_of_least(distances), 0, {}};
  for (double& distance : distances) distance *= -options_.sharpness / median;
  return {softmax_of(distances), 0, {}};
}

std::unique_ptr<Aggregator> make_distance_softmax(const DistanceSoftmaxOptions& options,
                                                  const AggregateSite&) {
  return std::make_unique<DistanceSoftmax>(options);
}

}  // namespace moekit::merge
