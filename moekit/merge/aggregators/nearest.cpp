#include "moekit/merge/aggregators/nearest.h"

namespace moekit::merge {

Mixture Nearest::mix(const WeightRows& rows) const {
  const auto& offsets = rows.offsets;
  const int64_t begin = options_.compare == Compare::kAll ? 0 : offsets[offsets.size() - 2];
  return {shares_of_least(squared_distances(rows, begin, offsets.back())), 0, {}};
}

std::unique_ptr<Aggregator> make_nearest(const NearestOptions& options, const AggregateSite&) {
  return std::make_unique<Nearest>(options);
}

}  // namespace moekit::merge
