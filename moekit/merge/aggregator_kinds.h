#pragma once

#include <memory>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/merge/aggregate.h"

namespace moekit::merge {

/// What an aggregation is made for.
struct AggregateSite {
  int64_t models = 0;  ///< K, most models it joins
};

/// The table of aggregations that recipes can name.
struct AggregatorKinds {
  using Row = Kind<std::unique_ptr<Aggregator>, AggregateSite>;
  static constexpr const char* kDefault = "quadratic";
  static constexpr const char* kWhat = "aggregation";
  static constexpr const char* kDoc = "how the models of a round are joined";
  static constexpr const char* kOptionsKey = "";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::merge
