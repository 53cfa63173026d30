#pragma once

#include "moekit/merge/aggregator_kinds.h"

namespace moekit::merge {

/// The median of every number over the models, of an even number of them the mean of the middle
/// two. The share of a model is the share of numbers that are its own: half a number for each of
/// the middle two, models with the same value divide it.
/// Source: Yin, Chen, Ramchandran, Bartlett 2018, arXiv:1803.01498, definition 1, of weights in
/// place of gradients.
class CoordinateMedian : public Aggregator {
 public:
  bool needs_reference() const override { return false; }
  Mixture mix(const WeightRows& rows) const override;
};

std::unique_ptr<Aggregator> make_coordinate_median(const NoOptions& options,
                                                   const AggregateSite& site);

}  // namespace moekit::merge
