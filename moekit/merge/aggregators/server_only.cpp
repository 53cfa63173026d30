#include "moekit/merge/aggregators/server_only.h"

namespace moekit::merge {

Mixture ServerOnly::mix(const WeightRows& rows) const {
  return {std::vector<double>(static_cast<size_t>(rows.size()), 0), 1, rows.reference};
}

std::unique_ptr<Aggregator> make_server_only(const NoOptions&, const AggregateSite&) {
  return std::make_unique<ServerOnly>();
}

}  // namespace moekit::merge
