#pragma once

#include "moekit/merge/aggregator_kinds.h"

namespace moekit::merge {

/// The reference alone; no model has a share. What training with users must be better than.
class ServerOnly : public Aggregator {
 public:
  bool needs_models() const override { return false; }
  Mixture mix(const WeightRows& rows) const override;
};

std::unique_ptr<Aggregator> make_server_only(const NoOptions& options, const AggregateSite& site);

}  // namespace moekit::merge
