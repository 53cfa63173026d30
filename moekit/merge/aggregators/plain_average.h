#pragma once

#include "moekit/merge/aggregator_kinds.h"

namespace moekit::merge {

/// Equal shares, rho_k = 1/K. Source: McMahan et al. 2017, arXiv:1602.05629, algorithm 1, for users
/// of equal weight.
class PlainAverage : public Aggregator {
 public:
  bool needs_reference() const override { return false; }
  Mixture mix(const WeightRows& rows) const override;
};

std::unique_ptr<Aggregator> make_plain_average(const NoOptions& options, const AggregateSite& site);

}  // namespace moekit::merge
