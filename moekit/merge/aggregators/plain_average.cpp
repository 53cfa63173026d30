#include "moekit/merge/aggregators/plain_average.h"

namespace moekit::merge {

Mixture PlainAverage::mix(const WeightRows& rows) const {
  const auto count = static_cast<size_t>(rows.size());
  return {std::vector<double>(count, 1 / static_cast<double>(count)), 0, {}};
}

std::unique_ptr<Aggregator> make_plain_average(const NoOptions&, const AggregateSite&) {
  return std::make_unique<PlainAverage>();
}

}  // namespace moekit::merge
